// Adds a button that copies a text which is to be passed on: the number of a request, a link, or a token.
if (navigator.clipboard) {
  for (const whole of document.querySelectorAll('[data-copy]')) {
    const button = document.createElement('button')
    button.type = 'button'
    button.className = 'quiet'
    button.textContent = whole.dataset.copy
    button.addEventListener('click', async () => {
      await navigator.clipboard.writeText(whole.querySelector('code').textContent)
      button.textContent = whole.dataset.copied
    })
    whole.append(' ', button)
  }
}
