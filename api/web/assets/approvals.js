// What the queue of approvals does with a script: keys, and news of what others decide while it is shown.

const base = document.documentElement.dataset.base
const rows = () => [...document.querySelectorAll('.queue > li:not(.decided)')]
const reason = document.getElementById('reason')

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

async function look(booking, position) {
  const reply = await fetch(`${base}/bookings/${booking}/answer?position=${position}`, {cache: 'no-store'})
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
  if (detail.bookingId) look(detail.bookingId, detail.position).catch(() => {}) // said by the next change, or when the page is loaded
})
// Anything may have changed: whatever is shown is looked at, one after the other, as of the latest that was told.
let resync = 0
document.addEventListener('roombook:resync', async ({detail}) => {
  document.getElementById('news').hidden = false
  const own = ++resync
  for (const {dataset} of rows()) if (own === resync) await look(dataset.booking, detail?.position ?? '').catch(() => {})
})
