// Shows the API's description with Swagger UI.
SwaggerUIBundle({
  url: document.documentElement.dataset.base + '/openapi.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: -1,
  validatorUrl: null,
})
