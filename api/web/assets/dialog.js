// The dialogs of a board: to book, and to see and change a booking.

import * as time from './time.js'
import {request, newKey} from './request.js'

// element makes an element with attributes and children. A handler is an attribute that begins with on.
export function element(name, attributes = {}, ...children) {
  const e = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue
    if (key.startsWith('on')) e.addEventListener(key.slice(2), value)
    else e.setAttribute(key, value === true ? '' : value)
  }
  e.append(...children.filter(c => c !== null && c !== undefined))
  return e
}

const minutesOf = text => {
  const [h, m] = text.split(':').map(Number)
  return h * 60 + m
}

const wallOf = (instant, zone) => {
  const wall = time.wallClock(instant, zone)
  return String(Math.floor(wall / 60)).padStart(2, '0') + ':' + String(wall % 60).padStart(2, '0')
}

// bookingDialog opens a dialog for a new booking, or for one there is, and closes it when something has been done. The board gives what it
// knows: text, locale, base, user; free(room, instant, except), changed(what) and rooms.
export function bookingDialog(board, {room, start, end, booking}) {
  const {text, locale, base} = board
  const zone = room.zone
  const date = time.dateOf(start, zone)
  const started = booking?.status === 'IN_USE'
  const over = booking?.status === 'ENDED'
  const fixed = started || over
  const key = newKey()

  const title = element('h2', {id: 'board-dialog-title'}, room.name)
  const when = element('p', {class: 'board-when'}, time.dayName(start, locale, zone) + (board.foreign(zone) ? ' · ' + text('zone', {zone}) : ''))
  const from = element('input', {type: 'time', name: 'from', required: true, value: wallOf(start, zone), disabled: fixed, oninput: check})
  const to = element('input', {type: 'time', name: 'to', required: true, value: wallOf(end, zone), disabled: fixed, oninput: check})
  const user = element('input', {type: 'text', name: 'user', required: true, value: booking ? booking.user ?? '' : board.user, pattern: '[A-Za-z0-9._\\-]{1,64}', autocomplete: 'username', disabled: fixed, title: text('user-format')})
  const chips = element('div', {class: 'board-chips', role: 'group', 'aria-label': text('length')}, ...[15, 30, 45, 60].map(n =>
    element('button', {type: 'button', onclick: () => { to.value = wallOf(slot().start + n * time.minute, zone); check() }}, text('minutes', {n}))))
  const state = element('p', {class: 'board-state', role: 'status'})
  const problem = element('div', {class: 'board-problem', role: 'alert'})
  const other = element('div', {class: 'board-others'})
  const submit = element('button', {type: 'submit', class: 'primary'}, text(booking ? 'save' : 'book'))
  const leave = element('button', {type: 'button', onclick: () => dialog.close()}, text('close'))
  const actions = element('div', {class: 'board-actions'}, fixed ? null : submit)
  if (booking) {
    const act = (label, run) => actions.append(element('button', {type: 'button', onclick: () => perform(run)}, text(label)))
    if (!fixed) act('cancel', () => board.cancel(booking))
    if (booking.status === 'CONFIRMED' || booking.status === 'BOOKED') act('start', () => request(base, 'POST', '/realuses', {body: {bookingId: booking.id}}))
    if (started) act('end', () => board.endUse(booking))
    actions.append(element('a', {href: `${base}/bookings/${booking.id}/page`}, text('details')))
  } else {
    actions.append(element('a', {href: `${base}/book?room=${encodeURIComponent(room.roomId)}&start=${time.iso(start)}&end=${time.iso(end)}`}, text('more')))
  }
  actions.append(leave)

  const form = element('form', {method: 'dialog', onsubmit: event => {
    event.preventDefault()
    if (!form.reportValidity()) return
    const {start, end} = slot()
    perform(() => booking ? board.change(booking, {room, start, end, user: user.value}) : board.book({room, start, end, user: user.value, key}), {start, end})
  }}, title, when,
  element('div', {class: 'board-fields'},
    element('label', {}, text('from'), from), element('label', {}, text('to'), to), element('label', {}, text('user'), user)),
  fixed ? null : chips, state, problem, other, actions)
  const dialog = element('dialog', {class: 'board-dialog', 'aria-labelledby': 'board-dialog-title', onclose: () => {
    board.removeEventListener('board:refreshed', check)
    dialog.remove()
  }}, form)

  function slot() {
    const start = time.at(date, minutesOf(from.value), zone)
    let end = time.at(date, minutesOf(to.value), zone)
    if (end <= start && minutesOf(to.value) === 0) end = time.at(time.addDays(date, 1), 0, zone)
    return {start, end}
  }

  // check says what is known of the time before it is asked for; it is asked for all the same, since only the server knows.
  function check() {
    if (fixed || !from.value || !to.value) return
    const {start, end} = slot()
    to.setCustomValidity(end <= start ? text('end-before-start') : '')
    const free = board.free(room, start, booking?.id)
    const taken = !free || free.end < end
    state.textContent = end <= start ? text('end-before-start') : taken ? text('not-free') : room.rules?.approval === 'none' ? text('free') : text('free-approval')
    dialog.classList.toggle('taken', taken)
    if (!booking) submit.textContent = text(room.rules?.approval === 'none' ? 'book' : 'ask')
  }

  async function perform(run, slot) {
    problem.replaceChildren()
    other.replaceChildren()
    submit.disabled = true
    form.setAttribute('aria-busy', 'true')
    const answer = await run()
    form.removeAttribute('aria-busy')
    submit.disabled = false
    if (answer.ok) {
      dialog.close()
      return
    }
    const {sentence, link} = board.explain(answer)
    problem.append(element('p', {}, sentence, ' ', link ? element('a', {href: link}, text('why')) : null))
    if (answer.status === 409 && slot) await offer(answer, slot)
  }

  // offer shows what can be booked instead, one tap each.
  async function offer(answer, {start, end}) {
    const found = new Map()
    const add = (room, start, end) => found.set(room.roomId + start + end, {room, start, end})
    const later = board.nextFree(room, start, end - start, booking?.id)
    if (later !== null && later !== start) add(room, later, later + end - start)
    const free = board.free(room, start, booking?.id)
    if (free && free.end < end) add(room, start, free.end)
    const earliest = answer.body?.earliest ?? answer.body?.broken?.map(b => b.earliest).find(Boolean)
    if (earliest) add(room, Date.parse(earliest), Date.parse(earliest) + end - start)
    const query = new URLSearchParams({from: time.iso(start), to: time.iso(end), size: '3'})
    if (room.capacity) query.set('capacity', String(Math.min(room.capacity, board.capacity || room.capacity)))
    const {ok, body} = await request(base, 'GET', '/availability?' + query)
    if (ok) {
      for (const r of body._embedded.rooms.concat(body._embedded.suggestions.map(s => s.room))) {
        if (r.roomId !== room.roomId || !found.size) add({...r, zone: board.room(r.roomId)?.zone ?? zone}, Date.parse(r.useStartDtm), Date.parse(r.useEndDtm))
      }
    }
    const buttons = [...found.values()].slice(0, 5).map(o => element('button', {type: 'button', onclick: () => {
      perform(() => booking ? board.change(booking, {...o, user: user.value}) : board.book({...o, user: user.value, key: newKey()}), o)
    }}, `${o.room.name} · ${time.clock(o.start, locale, o.room.zone)}–${time.clock(o.end, locale, o.room.zone)}`))
    other.append(element('p', {}, text(buttons.length ? 'instead' : 'nothing-instead')), ...buttons)
    buttons[0]?.focus()
  }

  board.addEventListener('board:refreshed', check)
  board.append(dialog)
  check()
  dialog.showModal()
  if (!user.value) user.focus()
  else if (!fixed) submit.focus()
  return {dialog, check}
}

// helpDialog lists the keys.
export function helpDialog(board) {
  const {text} = board
  const keys = ['arrows', 'extend', 'enter', 'move', 'resize', 'escape', 'home', 'page', 'today', 'week', 'new', 'help']
  const dialog = element('dialog', {class: 'board-dialog', 'aria-labelledby': 'board-help-title', onclose: () => dialog.remove()},
    element('form', {method: 'dialog'}, element('h2', {id: 'board-help-title'}, text('keys')),
      element('dl', {}, ...keys.flatMap(k => [element('dt', {}, text(`key-${k}`)), element('dd', {}, text(`does-${k}`))])),
      element('div', {class: 'board-actions'}, element('button', {class: 'primary'}, text('close')))))
  board.append(dialog)
  dialog.showModal()
}
