// Adds a button that copies a text which is to be passed on: the number of a request, a link, or a token.
if (navigator.clipboard) {
  for (const code of document.querySelectorAll('code[data-copy]')) {
    const button = document.createElement('button')
    button.type = 'button'
    button.className = 'quiet'
    button.textContent = code.dataset.copy
    button.addEventListener('click', async () => {
      await navigator.clipboard.writeText(code.textContent)
      button.textContent = code.dataset.copied
    })
    code.after(' ', button)
  }
}
