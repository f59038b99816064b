// Loads the page again every few seconds, until the display is paired.
setTimeout(() => location.reload(), 5000)
