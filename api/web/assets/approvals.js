// What the queue of approvals does with a script: keys, and news of what others decide while it is shown.

const base = document.documentElement.dataset.base
const rows = () => [...document.querySelectorAll('.queue > li:not(.decided)')]
const reason = document.getElementById('reason')
const patience = 30_000

// a confirms the booking that has the focus, or else the first one. d chooses it, to be denied once the reason is given.
document.addEventListener('keydown', e => {
  if (e.ctrlKey || e.altKey || e.metaKey || e.target.matches('input:not([type=checkbox]), select, textarea')) return
  const row = rows().find(r => r.contains(document.activeElement)) ?? rows()[0]
  const answer = row?.querySelector(`button[name=${{a: 'confirm', d: 'deny'}[e.key]}]`)
  if (!answer) return
  e.preventDefault()
  if (e.key === 'a') return answer.click()
  for (const box of document.querySelectorAll('.queue input[type=checkbox]')) box.checked = row.contains(box)
  reason.focus()
})

// Bookings about which something was told, and the position as of which to ask. They are asked about one after the other, each once.
const told = new Map()
let looking = false

async function look(booking, position) {
  told.set(booking, position)
  if (looking) return
  looking = true
  for (const [booking, position] of told) {
    told.delete(booking)
    await show(booking, position).catch(() => {}) // said by the next change, or when the page is loaded
  }
  looking = false
}

async function show(booking, position) {
  const reply = await fetch(`${base}/bookings/${booking}/answer?position=${position}`, {cache: 'no-store', signal: AbortSignal.timeout(patience)})
  if (reply.redirected) return // to the sign-in
  const row = rows().find(r => r.dataset.booking === booking)
  if (!row) {
    if (reply.status === 204) document.getElementById('news').hidden = false
    return
  }
  const text = reply.status === 200 && await reply.text()
  if (!text) return
  row.classList.add('decided')
  for (const part of row.querySelectorAll('input, button')) part.remove()
  row.querySelector('.queue-news').textContent = text
}

document.addEventListener('roombook:change', ({detail}) => {
  if (detail.bookingId) look(detail.bookingId, detail.position)
})

// Anything may have changed: the list is read again. The page says if bookings are waiting that it does not show, and what became of those that no
// longer wait.
let asked = null
let again = 0
document.addEventListener('roombook:resync', ({detail}) => resync(detail.position))

function resync(position) {
  asked?.abort()
  clearTimeout(again)
  asked = new XMLHttpRequest() // reads a page without a sink that trusted types guard
  asked.open('GET', location.href)
  asked.responseType = 'document'
  asked.timeout = patience
  if (position) asked.setRequestHeader('Roombook-Position', position)
  asked.onload = ({target: {status, response}}) => {
    if (status >= 500) return retry()
    if (status !== 200) return
    const bookings = page => [...page.querySelectorAll('.queue > li')].map(row => row.dataset.booking)
    const [waiting, shown] = [bookings(response), bookings(document)]
    if (waiting.some(booking => !shown.includes(booking))) document.getElementById('news').hidden = false
    for (const {dataset} of rows()) if (!waiting.includes(dataset.booking)) look(dataset.booking, position)
  }
  const retry = () => { again = setTimeout(resync, 2000, position) }
  asked.onerror = asked.ontimeout = retry
  asked.send()
}
