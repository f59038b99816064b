// Shows the API's description with Swagger UI.
SwaggerUIBundle({
  url: document.getElementById("swagger-ui").dataset.prefix + "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: -1,
  validatorUrl: null,
});
