// One stream of changes for all tabs of a browser. The tab that holds the lock reads it and passes what comes on to the others. Each tab tells
// its page by events on the document: roombook:change (with what /events says), roombook:resync (anything may have changed), roombook:behind (with
// the position that the stream has reached, when the tab has joined it) and roombook:state (live or stale).

const prefix = new URL(import.meta.url).pathname
const base = prefix.slice(0, prefix.lastIndexOf('/assets/'))
const channel = new BroadcastChannel('roombook' + base)

let state = ''
let last = document.documentElement.dataset.position ?? '' // the position up to which this tab knows everything
let source = null
let leading = false
let again = 0
let reached = '0' // the position that lists have to have reached, to have all that has been told

function tell(message) {
  if (message.id) last = message.id
  if (message.type === 'change') reached = message.detail.position
  if (message.type === 'state') {
    if (state === message.detail) return
    state = message.detail
  }
  document.dispatchEvent(new CustomEvent('roombook:' + message.type, {detail: message.detail}))
}

function pass(message) {
  tell(message)
  channel.postMessage(message)
}

function open() {
  clearTimeout(again)
  source?.close()
  source = new EventSource(base + '/events' + (Number(last) ? '?after=' + last : ''))
  const on = (name, handle) => source.addEventListener(name, handle)
  on('open', () => pass({type: 'state', detail: 'live'}))
  on('ready', e => pass({type: 'ready', id: e.lastEventId}))
  on('change', e => pass({type: 'change', id: e.lastEventId, detail: JSON.parse(e.data)}))
  on('resync', e => pass({type: 'resync', id: e.lastEventId}))
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

channel.addEventListener('message', ({data}) => {
  if (data.type !== 'hello') tell(data)
  else if (leading && state) {
    channel.postMessage({type: 'state', detail: state, id: last})
    channel.postMessage({type: 'behind', detail: {position: reached}})
  }
})

if (navigator.locks) {
  channel.postMessage({type: 'hello'})
  navigator.locks.request('roombook' + base, lead)
} else { // over plain HTTP from another machine there are no locks: each visible tab has its own stream
  const follow = () => document.hidden ? source?.close() : open()
  document.addEventListener('visibilitychange', follow)
  follow()
}
addEventListener('offline', () => tell({type: 'state', detail: 'stale'}))
addEventListener('online', () => { if (leading) open() })

export const live = {get state() { return state }}
