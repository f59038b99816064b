// One stream of changes for all tabs of a browser. The tab that holds the lock reads it and passes what comes on to the others. Each tab tells
// its page by events on the document: roombook:change (with what /events says), roombook:resync (anything may have changed; with the position at
// which lists have it, if that is known) and roombook:state (live or stale). Over plain HTTP from another machine there are no locks: each visible
// tab has its own stream then, and passes nothing on, since the others may not have been told what was before.

const prefix = new URL(import.meta.url).pathname
const base = prefix.slice(0, prefix.lastIndexOf('/assets/'))
const channel = navigator.locks && new BroadcastChannel('roombook' + base)

let state = ''
let last = document.documentElement.dataset.position ?? '' // the position up to which this tab knows everything
let source = null
let leading = false
let again = 0
let reached = last // the position that lists have to have reached, to have all that has been told

// tell tells the page a message. A tab that does not know all that the tab with the stream had been told before has missed something.
function tell({type, id, detail, from}) {
  const missed = Number(from) > Number(last)
  if (missed || id) last = id ?? from
  if (missed && type !== 'resync') document.dispatchEvent(new CustomEvent('roombook:resync', {detail: {position: from}}))
  if (type === 'change' && Number(detail.position) > Number(reached)) reached = detail.position
  if (type === 'state') {
    if (state === detail) return
    state = detail
  }
  if (type !== 'ready') document.dispatchEvent(new CustomEvent('roombook:' + type, {detail}))
}

function pass(message) {
  message = {from: reached, ...message}
  tell(message)
  channel?.postMessage(message)
}

function close() {
  clearTimeout(again)
  source?.close()
}

function open() {
  close()
  const after = Number(last), from = reached
  source = new EventSource(base + '/events' + (after ? '?after=' + last : ''))
  const on = (name, handle) => source.addEventListener(name, handle)
  on('open', () => pass({type: 'state', detail: 'live', from}))
  const resync = e => pass({type: 'resync', id: e.lastEventId, detail: {position: reached}})
  on('ready', e => after ? pass({type: 'ready', id: e.lastEventId}) : resync(e))
  on('change', e => pass({type: 'change', id: e.lastEventId, detail: JSON.parse(e.data)}))
  on('resync', resync)
  on('error', () => {
    pass({type: 'state', detail: 'stale'})
    if (source.readyState === EventSource.CLOSED) again = setTimeout(open, 2000 + 3000 * Math.random()) // it gives up on any other answer than 200
  })
}

function lead() {
  leading = true
  open()
  return new Promise(() => {}) // until the tab is closed
}

if (channel) {
  channel.addEventListener('message', ({data}) => {
    if (data.type !== 'hello') tell(data)
    else if (leading && state) channel.postMessage({type: 'state', detail: state, id: last, from: reached})
  })
  channel.postMessage({type: 'hello'})
  navigator.locks.request('roombook' + base, lead)
} else {
  const follow = () => {
    leading = !document.hidden
    leading ? open() : close()
  }
  document.addEventListener('visibilitychange', follow)
  follow()
}
addEventListener('offline', () => tell({type: 'state', detail: 'stale'}))
addEventListener('online', () => { if (leading) open() })

export const live = {get state() { return state }}
