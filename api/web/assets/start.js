// Loads the board and its style when the page has been painted with what the server has sent, so that the reader sees that first.
function add(rel, file) {
  const link = document.createElement('link')
  Object.assign(link, {rel, href: new URL(file, import.meta.url).href})
  document.head.append(link)
  return new Promise((loaded, failed) => Object.assign(link, {onload: loaded, onerror: failed}))
}

async function load() {
  try {
    await Promise.all([add('stylesheet', 'board.css'), add('modulepreload', 'board.js').catch(() => {})])
    await import('./board.js')
  } catch {
    document.querySelector('room-board')?.setAttribute('ready', '') // then all that the server has sent stays
  }
}

if (document.hidden) load()
else requestAnimationFrame(() => setTimeout(load))
