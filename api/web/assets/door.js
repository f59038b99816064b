// Keeps a display up to date for months: it asks for its page every half a minute, or as soon as something changes, and takes over what is in it.
// Only a page that needs other files, after a deployment, or is another screen is loaded anew, and only once the server has answered, so that a
// server that is away never leaves the display with an error of the browser. While the server does not answer the display says so, with the time
// of its last news. Between two answers its clock goes on. Until a display is paired it is asked for more often.
// Changes that it is told of while it waits for an answer, and in the second after it, make it ask once.
import {clock, wallClock} from './time.js'

const patience = 120_000 // for which a form that somebody has opened stays, whatever changes meanwhile
const settling = 1000 // after a touch, for which nothing moves under the finger
const rest = 1000 // after an answer, for which changes are gathered
const language = document.documentElement.lang
const content = () => document.querySelector('main')
const every = document.querySelector('.pair-code') ? 5_000 : 30_000
let news = Date.now()
let touched = 0 // when somebody last did something to it
let lit = false // by a tap, until the next answer
let asked = null
let resting = false
let more = false // whether something was told since the last question
let wanted = 0 // position that the next page that is shown is to include
let timer = setTimeout(refresh, every)

// kind is what a page needs: another kind is loaded anew.
const kind = page => [page.documentElement.className, page.documentElement.lang, page.documentElement.dataset.hours,
  ...[...page.querySelectorAll('script, link')].map(e => e.getAttribute('src') ?? e.getAttribute('href'))].join()

const busy = () => document.querySelector('.door-report[open]') && Date.now() - touched < patience

// refresh asks for the page as of the last position that was told and is not shown yet.
function refresh(position = 0) {
  wanted = Math.max(wanted, position)
  more = asked !== null || resting
  if (more) return
  clearTimeout(timer)
  timer = setTimeout(refresh, every)
  if (busy()) return
  const here = location.pathname + location.search
  asked = new XMLHttpRequest() // reads a page without a sink that trusted types guard
  asked.open('GET', here)
  asked.responseType = 'document'
  asked.timeout = every
  const sent = wanted
  if (sent) asked.setRequestHeader('Roombook-Position', sent)
  asked.onload = ({target: {status, response}}) => {
    answered()
    const refused = status === 403 && response?.documentElement.dataset.base !== undefined // by this server, whose page says why
    if (status !== 200 && !refused || !response) {
      if (status === 400) wanted = 0 // a backup was restored, whose log does not reach that far
      disconnected()
      return
    }
    news = Date.now()
    if (busy()) return
    if (Date.now() - touched < settling) {
      clearTimeout(timer)
      timer = setTimeout(refresh, settling)
    } else if (kind(response) === kind(document)) {
      if (wanted === sent) wanted = 0
      show(response)
    } else location.replace(here)
  }
  asked.onerror = asked.ontimeout = () => {
    answered()
    disconnected()
  }
  asked.send()
}

function answered() {
  asked = null
  resting = true
  setTimeout(() => {
    resting = false
    if (more) refresh()
  }, rest)
}

function disconnected() {
  const offline = document.getElementById('offline')
  if (!offline) return
  const {dataset} = content()
  offline.textContent = dataset.offline.replace('{when}', clock(news, language, dataset.zone))
  offline.hidden = false
}

const controls = () => [...content().querySelectorAll('a, button, input, summary')]

// show takes over what has changed, and leaves the focus at the same control.
function show(page) {
  lit = false
  const next = document.adoptNode(page.querySelector('main'))
  dim(next)
  if (next.isEqualNode(content())) return
  document.title = page.title
  const focus = controls().indexOf(document.activeElement)
  content().replaceWith(next)
  controls()[focus]?.focus()
}

// dim dims a display at night; a tap lights it up for a while.
function dim(display) {
  if (!display.dataset.zone) return
  const minutes = wallClock(Date.now(), display.dataset.zone)
  display.classList.toggle('dim-display', !lit && (minutes < 6 * 60 || minutes >= 21 * 60))
}

document.addEventListener('roombook:change', e => {
  const {room} = content().dataset
  if (!room || e.detail.roomId === room) refresh(e.detail.position)
})
document.addEventListener('roombook:resync', e => refresh(e.detail?.position))
for (const type of ['pointerdown', 'toggle', 'input']) document.addEventListener(type, () => { touched = Date.now() }, true)
addEventListener('pointerdown', () => {
  lit = true
  dim(content())
})
setInterval(() => {
  const time = document.querySelector('.door-clock time')
  if (!time) return
  const now = clock(Date.now(), language, content().dataset.zone)
  if (time.textContent !== now) time.textContent = now
}, 1000)
dim(content())
