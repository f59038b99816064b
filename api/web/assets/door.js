// Keeps a display up to date: it loads the page again every half a minute, or as soon as something changes, as long as the server answers.
// While the server does not answer the display says so, with the time of its last news. Between two loads its clock goes on.
import {clock, wallClock} from './time.js'

const every = 30_000
const display = document.querySelector('.door')
const offline = document.getElementById('offline')
const {zone, room} = display.dataset
const language = document.documentElement.lang
const loaded = Date.now()
let timer = setTimeout(refresh, every)

async function refresh() {
  clearTimeout(timer)
  const here = location.pathname + location.search
  try {
    const reply = await fetch(here, {method: 'HEAD', cache: 'no-store'})
    if (reply.ok) {
      location.replace(here)
      return
    }
  } catch {
    // The server cannot be reached; the display says so below.
  }
  offline.textContent = display.dataset.offline.replace('{when}', clock(loaded, language, zone))
  offline.hidden = false
  timer = setTimeout(refresh, every)
}

document.addEventListener('roombook:change', e => {
  if (!room || e.detail?.roomId === room) refresh()
})
document.addEventListener('roombook:resync', refresh)

const time = document.querySelector('.door-clock time')
setInterval(() => {
  const now = clock(Date.now(), language, zone)
  if (time.textContent !== now) time.textContent = now
}, 1000)

// At night the display dims; a tap lights it up for a while.
const minutes = wallClock(Date.now(), zone)
if (minutes < 6 * 60 || minutes >= 21 * 60) {
  display.classList.add('dim-display')
  addEventListener('pointerdown', () => display.classList.remove('dim-display'))
}
