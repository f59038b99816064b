// One stream of changes for all tabs of a browser. The tab that holds the lock reads it and passes what comes on to the others. Each tab tells
// its page by events on the document: roombook:change (with what /events says), roombook:resync (anything may have changed; with the position as of
// which to ask, and back if a backup of the log was restored, so that positions from before are no longer valid) and roombook:state (live, stale or
// signed-out). Over plain HTTP from another machine there are no locks: each visible tab has its own stream then, and passes nothing on, since the
// others may not have been told what was before.

const prefix = new URL(import.meta.url).pathname
const base = prefix.slice(0, prefix.lastIndexOf('/assets/'))
const patience = 10_000
const channel = navigator.locks && new BroadcastChannel('roombook' + base)

let state = ''
let last = document.documentElement.dataset.position ?? '' // the position up to which this tab knows everything
let source = null
let leading = false
let leave = () => {} // gives the lock to another tab
let again = 0
let reached = Number(last) // the position as of which lists have everything that was told

// tell passes a message on to the page. A tab that lacks what the tab with the stream had been told before has missed something, and so may one
// have whose reader was signed out.
function tell({type, id, detail, from = 0}) {
  const back = type === 'resync' && Number(id) < Number(last)
  const signedIn = state === 'signed-out' && detail === 'live'
  const missed = from > Number(last) || signedIn
  last = id || Math.max(from, Number(last))
  reached = back ? detail.position : Math.max(reached, from, detail?.position ?? 0)
  if (type === 'resync') detail = {position: reached, back}
  else if (missed) document.dispatchEvent(new CustomEvent('roombook:resync', {detail: {position: reached}}))
  if (type === 'state') {
    if (state === detail || state === 'signed-out' && !signedIn) return
    state = detail
    if (signedIn && !leading) join()
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
  source = null
}

function open() {
  close()
  const after = Number(last), from = reached
  const own = source = new EventSource(base + '/events' + (after ? '?after=' + last : ''))
  const on = (name, handle) => own.addEventListener(name, handle)
  on('open', () => pass({type: 'state', detail: 'live', from}))
  const resync = e => pass({type: 'resync', id: e.lastEventId, detail: JSON.parse(e.data)})
  on('ready', e => after ? pass({type: 'ready', id: e.lastEventId}) : resync(e))
  on('change', e => pass({type: 'change', id: e.lastEventId, detail: JSON.parse(e.data)}))
  on('resync', resync)
  on('error', async () => {
    pass({type: 'state', detail: 'stale'})
    if (own.readyState !== EventSource.CLOSED) return // it connects again by itself, unless the answer was not 200, which it does not tell
    const {status} = await fetch(own.url, {method: 'HEAD', cache: 'no-store', signal: AbortSignal.timeout(patience)}).catch(() => ({}))
    if (source !== own) return
    if (status === 401 || status === 403) signedOut()
    else again = setTimeout(open, 2000 + 3000 * Math.random())
  })
}

// signedOut ends the stream until the reader has signed in again. The page that is loaded then opens the next one or, without locks, a tab that is
// shown again.
function signedOut() {
  close()
  leading = false
  leave()
  tell({type: 'state', detail: 'signed-out'})
}

function lead() {
  leading = true
  open()
  return new Promise(done => { leave = done }) // until the tab is closed
}

function join() {
  if (channel) navigator.locks.request('roombook' + base, lead)
}

if (channel) {
  channel.addEventListener('message', ({data}) => {
    if (data.type !== 'hello') tell(data)
    else if (leading && state) channel.postMessage({type: 'state', detail: state, id: last, from: reached})
  })
  channel.postMessage({type: 'hello'})
  join()
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
