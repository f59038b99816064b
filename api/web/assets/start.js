// Loads the board when the page has been painted with what the server has sent, so that the reader sees that first.
const load = () => import('./board.js')
if (document.hidden) load()
else requestAnimationFrame(() => setTimeout(load))
