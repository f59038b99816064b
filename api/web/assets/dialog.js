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

// draft keeps what is typed in the dialog of this tab while the page is loaded again, such as after signing in.
export const draft = {
  key: 'roombook-typed board', // typed.js removes it with the others
  read() { return JSON.parse(sessionStorage.getItem(this.key)) },
  keep(fields) { sessionStorage.setItem(this.key, JSON.stringify(fields)) },
  drop() { sessionStorage.removeItem(this.key) },
}

const minutesOf = text => {
  const [h, m] = text.split(':').map(Number)
  return h * 60 + m
}

const wallOf = (instant, zone) => {
  const wall = time.wallClock(instant, zone)
  return String(Math.floor(wall / 60)).padStart(2, '0') + ':' + String(wall % 60).padStart(2, '0')
}

const patience = 300 // milliseconds after which a command that has no answer yet says so

// bookingDialog opens a dialog for a new booking, or for one there is, beside an element, and closes it when something has been done. It may
// begin with what was typed before (kept), or with the answer to a change. The board gives what it knows: text, locale, base, user;
// free(room, instant, except), others(room, start, end) and forbids(room, start, end).
export function bookingDialog(board, {room, start, end, booking, kept, answer}, beside) {
  const {text, locale, base} = board
  const date = time.dateOf(start, room.zone)
  const started = booking?.status === 'IN_USE'
  const over = booking?.status === 'ENDED'
  const fixed = started || over || !!booking?.locked
  const key = kept?.key ?? newKey()
  const untouched = [wallOf(start, room.zone), wallOf(end, room.zone), booking?.user].join()

  const title = element('h2', {id: 'board-dialog-title'})
  const when = element('p', {class: 'board-when'})
  const faults = element('p', {class: 'board-when'})
  const from = element('input', {type: 'time', name: 'from', required: true, value: kept?.from ?? wallOf(start, room.zone), disabled: fixed, oninput: check})
  const to = element('input', {type: 'time', name: 'to', required: true, value: kept?.to ?? wallOf(end, room.zone), disabled: fixed, oninput: check})
  const user = element('input', {type: board.accounts ? 'hidden' : 'text', name: 'user', required: true, value: kept?.user ?? (booking ? booking.user ?? '' : board.user), pattern: '[A-Za-z0-9._\\-]{1,64}', autocomplete: 'username', disabled: fixed, title: text('user-format'), oninput: check})
  const chips = element('div', {class: 'board-chips', role: 'group', 'aria-label': text('length')}, ...[15, 30, 45, 60].map(n =>
    element('button', {type: 'button', onclick: () => { to.value = wallOf(slot().start + n * time.minute, room.zone); check() }}, text('minutes', {n}))))
  const state = element('p', {class: 'board-state', role: 'status'})
  const also = element('div', {class: 'board-chips board-also', role: 'group', 'aria-label': text('also-free')})
  const problem = element('div', {class: 'board-problem', role: 'alert'})
  const other = element('div', {class: 'board-others'})
  const submit = element('button', {type: 'submit', class: 'primary'}, text(booking ? 'save' : 'book'))
  const leave = element('button', {type: 'button', class: 'board-leave', onclick: () => dialog.close()}, text('close'))
  const actions = element('div', {class: 'board-actions'}, fixed ? null : submit)
  const more = element('a', {onclick: () => draft.drop()})
  if (booking) {
    const act = (label, run) => actions.append(element('button', {type: 'button', onclick: () => perform(run)}, text(label)))
    if (!fixed) act('cancel', () => board.cancel(booking))
    if (!fixed && (booking.status === 'CONFIRMED' || booking.status === 'BOOKED')) act('start', () => request(base, 'POST', '/realuses', {body: {bookingId: booking.id}}))
    if (started && !booking.locked) act('end', () => board.endUse(booking))
    more.href = `${base}/bookings/${booking.id}/page`
  }
  more.textContent = text(booking ? 'details' : 'more')
  actions.append(more, leave)

  const form = element('form', {method: 'dialog', onsubmit: event => {
    event.preventDefault()
    if (!form.reportValidity()) return
    const {start, end} = slot()
    perform(() => booking ? board.change(booking, {room, start, end, user: user.value}) : board.book({room, start, end, user: user.value, key}), {start, end})
  }}, title, when, faults,
  element('div', {class: 'board-fields'},
    element('label', {}, text('from'), from), element('label', {}, text('to'), to), board.accounts ? user : null,
    !board.accounts || booking ? element('label', {}, text('user'), board.accounts ? element('input', {value: booking.who, disabled: true}) : user) : null),
  fixed ? null : chips, state, fixed ? null : also, problem, other, actions)
  const dialog = element('dialog', {class: 'board-dialog', 'aria-labelledby': 'board-dialog-title', onclose: () => {
    board.removeEventListener('board:refreshed', check)
    board.removeEventListener('board:rules', check)
    draft.drop()
    dialog.remove()
  }}, form)

  function slot() {
    const start = time.at(date, minutesOf(from.value), room.zone)
    let end = time.at(date, minutesOf(to.value), room.zone)
    if (end <= start && minutesOf(to.value) === 0) end = time.at(time.addDays(date, 1), 0, room.zone)
    return {start, end}
  }

  // check says what is known of the time before it is asked for; it is asked for all the same, since only the server knows.
  function check() {
    title.textContent = room.name
    faults.textContent = board.room(room.roomId)?.faults ? text('faults', {what: board.room(room.roomId).faults}) : ''
    faults.hidden = !faults.textContent
    when.textContent = time.dayName(start, locale, room.zone) + (board.foreign(room.zone) ? ' · ' + text('zone', {zone: room.zone}) : '')
    if (fixed || !from.value || !to.value) return
    const asked = slot()
    const typed = {from: from.value, to: to.value, user: user.value}
    if (!booking || kept || Object.values(typed).join() !== untouched) draft.keep({...typed, reader: board.user, room: room.roomId, start, end, booking: booking?.id, key})
    if (!booking) more.href = `${base}/book?room=${encodeURIComponent(room.roomId)}&start=${time.iso(asked.start)}&end=${time.iso(asked.end)}`
    const backwards = asked.end <= asked.start ? text('end-before-start') : ''
    to.setCustomValidity(backwards)
    const free = board.free(room, asked.start, booking?.id)
    const taken = !free || free.end < asked.end
    const by = taken && board.inWay(room, asked.start, asked.end, booking?.id)
    const none = room.rules?.approval === 'none'
    const against = backwards || (by ? board.taken(by.start, by.end, room.zone, by) : taken ? text('not-free-now') : board.forbids(room, asked.start, asked.end))
    const words = against || text(none ? 'free' : 'free-approval')
    if (state.textContent !== words) state.textContent = words
    dialog.classList.toggle('taken', !!against)
    if (!booking) submit.textContent = text(none ? 'book' : 'ask')
    const rooms = backwards ? [] : board.others(room, asked.start, asked.end).slice(0, 4)
    if (also.dataset.rooms === rooms.map(r => r.roomId).join()) return
    also.dataset.rooms = rooms.map(r => r.roomId).join()
    also.replaceChildren(...rooms.length ? [element('span', {}, text('also-free'))] : [], ...rooms.map(r => element('button', {type: 'button', onclick: () => {
      room = r
      check()
      submit.focus()
    }}, r.capacity ? `${r.name} · ${board.seats(r)}` : r.name)))
  }

  async function perform(run, slot) {
    problem.replaceChildren()
    other.replaceChildren()
    submit.disabled = true
    form.setAttribute('aria-busy', 'true')
    const slow = setTimeout(() => { state.textContent = text('sending') }, patience)
    const answer = await run()
    clearTimeout(slow)
    form.removeAttribute('aria-busy')
    submit.disabled = false
    if (answer.ok) {
      dialog.close()
      return
    }
    if (!dialog.isConnected) { // it was closed before the answer
      board.notify(board.explain(answer, room.zone).sentence)
      return
    }
    check()
    await refuse(answer, slot)
  }

  // refuse says why there is no booking and, if there can be others, which.
  async function refuse(answer, slot) {
    const {sentence, link, label, requestId} = board.explain(answer, room.zone)
    problem.append(element('p', {}, sentence, ' ', link ? element('a', {href: link}, label ?? text('why')) : null))
    if (requestId) problem.append(element('p', {}, text('request-id'), ' ', element('code', {}, requestId)))
    if (answer.status === 409 && slot) await offer(answer, slot)
  }

  // offer shows what can be booked instead, one tap each.
  async function offer(answer, {start, end}) {
    const found = new Map()
    const add = (kind, room, start, end) => found.set(room.roomId + start + end, {kind, room, start, end})
    const later = board.nextFree(room, start, end - start, booking?.id)
    if (later !== null && later !== start) add('later', room, later, later + end - start)
    const free = board.free(room, start, booking?.id)
    if (free && free.end < end) add('shorter', room, start, free.end)
    const earliest = answer.body?.earliest ?? answer.body?.broken?.map(b => b.earliest).find(Boolean)
    if (earliest) add('later', room, Date.parse(earliest), Date.parse(earliest) + end - start)
    const query = new URLSearchParams({from: time.iso(start), to: time.iso(end), size: '3'})
    if (room.capacity) query.set('capacity', String(Math.min(room.capacity, board.capacity || room.capacity)))
    const {ok, body} = await request(base, 'GET', '/availability?' + query)
    if (ok) {
      for (const r of body._embedded.rooms.concat(body._embedded.suggestions.map(s => s.room))) {
        if (r.roomId !== room.roomId || !found.size) add('elsewhere', {...r, zone: board.room(r.roomId)?.zone ?? room.zone}, Date.parse(r.useStartDtm), Date.parse(r.useEndDtm))
      }
    }
    const buttons = [...found.values()].slice(0, 5).map(o => element('button', {type: 'button', onclick: () => {
      perform(() => booking ? board.change(booking, {...o, user: user.value}) : board.book({...o, user: user.value, key: newKey()}), o)
    }}, element('small', {}, text('instead-' + o.kind)), element('span', {}, o.room.name + ' · ', element('span', {class: 'board-span'}, `${time.clock(o.start, locale, o.room.zone)}–${time.clock(o.end, locale, o.room.zone)}`))))
    other.append(element('p', {}, text(buttons.length ? 'instead' : 'nothing-instead')), ...buttons)
    buttons[0]?.focus()
  }

  board.addEventListener('board:refreshed', check)
  board.addEventListener('board:rules', check)
  board.append(dialog)
  check()
  dialog.showModal()
  if (beside) place(dialog, beside)
  if (!user.value) user.focus()
  else if (!fixed) submit.focus()
  if (answer) refuse(answer, {start, end})
}

const roomToGrow = 120 // pixels for what a dialog may have to say later

// place puts a dialog below an element or, where that has no room for it, above. On a phone it stays at the edge of the screen, where the style has it.
function place(dialog, beside) {
  const box = beside.getBoundingClientRect()
  const {width, height} = dialog.getBoundingClientRect()
  if (!box.width || width > innerWidth * 0.8) return
  const above = box.top - height - 8
  const below = box.bottom + 8
  const fits = below + height + roomToGrow < innerHeight || above < 8
  const top = Math.max(8, Math.min(fits ? below : above, innerHeight - height - 8))
  const left = Math.max(8, Math.min(box.left, innerWidth - width - 8))
  for (const [name, value] of Object.entries({margin: '0', left: left + 'px', top: top + 'px', 'max-height': innerHeight - top - 8 + 'px'})) dialog.style.setProperty(name, value)
}

// helpDialog lists the keys.
export function helpDialog(board) {
  const {text} = board
  const keys = ['arrows', 'extend', 'enter', 'move', 'resize', 'escape', 'home', 'page', 'today', 'week', 'favourite', 'new', 'help']
  const dialog = element('dialog', {class: 'board-dialog', 'aria-labelledby': 'board-help-title', onclose: () => dialog.remove()},
    element('form', {method: 'dialog'}, element('h2', {id: 'board-help-title'}, text('keys')),
      element('dl', {}, ...keys.flatMap(k => [element('dt', {}, text(`key-${k}`)), element('dd', {}, text(`does-${k}`))])),
      element('div', {class: 'board-actions'}, element('button', {class: 'primary'}, text('close')))))
  board.append(dialog)
  dialog.showModal()
}
