// The board: <room-board> shows who has which room when, and books by mouse, touch and keyboard. What the server has sent inside it stays until
// the first answer has come, and for whoever has no script.

import * as time from './time.js'
import * as layout from './layout.js'
import * as drag from './drag.js'
import {live} from './live.js'
import {request} from './request.js'
import {element, bookingDialog, helpDialog} from './dialog.js'

const rowHeight = 48
const undoTime = 10_000
const defaultStep = 15
const defaultLength = 60 * time.minute
const roomsPerQuestion = 100
const states = {BOOKED: 'waiting', CONFIRMED: 'confirmed', IN_USE: 'in-use', ENDED: 'ended'}

class RoomBoard extends HTMLElement {
  #rooms = new Map() // by id
  #lanes = []
  #spans = new Map() // by room id
  #rows = new Map() // those that are drawn, by index
  #drag = drag.idle
  #cursor = null // {lane, at}
  #selection = null // {lane, start, end}
  #stale = new Map() // rooms to ask about again, and from which position on
  #position = '0'
  #texts = {}

  connectedCallback() {
    if (this.#texts.ready) return
    const texts = document.getElementById('board-text')
    this.#texts = {...(texts ? JSON.parse(texts.textContent) : {}), ready: true}
    const {base, zone, view, day, user, language} = this.dataset
    Object.assign(this, {base: base ?? '', zone, view: view || 'day', day, user: user ?? '', locale: language || 'en'})
    this.capacity = Number(new URLSearchParams(location.search).get('capacity')) || 0
    this.#position = this.dataset.position || '0'
    document.addEventListener('roombook:change', e => this.#changed(e.detail))
    document.addEventListener('roombook:resync', () => this.#load())
    document.addEventListener('roombook:state', () => this.#showState())
    this.#load()
  }

  text = (key, values = {}) => (this.#texts['board.' + key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '')

  // foreign reports whether the reader's clock shows another time than that of a zone.
  foreign(zone) {
    const now = Date.now()
    return time.offset(now, zone) !== time.offset(now, Intl.DateTimeFormat().resolvedOptions().timeZone)
  }

  room(id) { return this.#rooms.get(id) }

  // ---- what is shown

  async #load() {
    const filters = new URLSearchParams({size: '200', sort: 'building'})
    for (const [name, value] of new URLSearchParams(location.search)) {
      if (['building', 'capacity', 'equipment', 'text', 'floor'].includes(name) && value) filters.set(name, value)
    }
    const found = []
    for (let path = '/rooms?' + filters; path; ) {
      const {ok, body} = await request(this.base, 'GET', path)
      if (!ok) {
        this.#loadFailed()
        return
      }
      found.push(...body._embedded.rooms)
      const next = body._links.next && new URL(body._links.next.href, location.href)
      path = next && '/rooms' + next.search
    }
    const only = this.view === 'room' ? new URLSearchParams(location.search).get('room') ?? found[0]?.roomId : null
    const rooms = found.filter(r => !only || r.roomId === only)
    if (!rooms.length) return // the page says what to do
    const before = this.#rooms
    this.#rooms = new Map(rooms.map(r => [r.roomId, {...r, zone: r.zone || this.zone, rules: before.get(r.roomId)?.rules}]))
    this.#spans = await this.#ask([...this.#rooms.keys()], this.#position) ?? this.#spans
    this.#layOut()
    this.#build()
    if (this.#rooms.size <= 12) for (const id of this.#rooms.keys()) this.#rules(id)
  }

  #loadFailed() {
    clearTimeout(this.retry)
    this.retry = setTimeout(() => this.#load(), 2000)
  }

  #dates() { return this.view === 'day' ? [this.day] : time.weekOf(this.day, this.locale) }

  // window is all the time of the days that are shown.
  #window() {
    const dates = this.#dates()
    return {start: time.at(dates[0], 0, this.zone), end: time.at(time.addDays(dates.at(-1), 1), 0, this.zone)}
  }

  // ask returns what takes rooms, by room, or null if there is no answer.
  async #ask(ids, position) {
    const {start, end} = this.#window()
    const spans = new Map()
    const asked = []
    for (let i = 0; i < ids.length; i += roomsPerQuestion) {
      const query = new URLSearchParams([['from', time.iso(start)], ['to', time.iso(end)], ...ids.slice(i, i + roomsPerQuestion).map(id => ['roomId', id])])
      asked.push(request(this.base, 'GET', '/occupancy?' + query, {position: position === '0' ? '' : position}))
    }
    for (const {ok, body} of await Promise.all(asked)) {
      if (!ok) return null
      for (const r of body._embedded.rooms) {
        const room = this.#rooms.get(r.roomId)
        if (room) room.zone = r.zone
        spans.set(r.roomId, r.spans.map(s => ({
          kind: s.kind, start: Date.parse(s.startDtm), end: Date.parse(s.endDtm), id: s.bookingId, user: s.bookingUserId, who: this.#who(s), status: s.status, reason: s.reason,
        })))
      }
    }
    return spans
  }

  #layOut() {
    const dates = this.#dates()
    const {start, minutes} = time.day(this.day, this.zone)
    let from = time.wallClock(start + this.dataset.from * time.minute, this.zone)
    let to = this.dataset.to >= minutes ? 1440 : time.wallClock(start + this.dataset.to * time.minute, this.zone)
    for (const spans of this.#spans.values()) { // no booking is hidden
      for (const s of spans) {
        if (s.kind !== 'booking') continue
        for (const date of dates) {
          const {start, minutes} = time.day(date, this.zone)
          const end = start + minutes * time.minute
          if (s.end <= start || s.start >= end) continue
          from = Math.min(from, s.start <= start ? 0 : Math.floor(time.wallClock(s.start, this.zone) / 60) * 60)
          to = Math.max(to, s.end >= end ? 1440 : Math.ceil(time.wallClock(s.end, this.zone) / 60) * 60)
        }
      }
    }
    const part = date => ({
      date,
      start: time.at(date, from, this.zone),
      end: to === 1440 ? time.at(time.addDays(date, 1), 0, this.zone) : time.at(date, to, this.zone),
    })
    const rooms = [...this.#rooms.values()]
    this.#lanes = this.view === 'room'
      ? dates.map(date => ({room: rooms[0], parts: [part(date)], label: time.dayName(time.at(date, 0, this.zone), this.locale, this.zone)}))
      : rooms.map(room => ({room, parts: dates.map(part), label: room.name}))
  }

  #build() {
    const {text} = this
    const scrolled = this.scroller && {top: this.scroller.scrollTop, left: this.scroller.scrollLeft}
    const focused = this.scroller?.contains(document.activeElement)
    this.#rows.clear()
    this.head = element('div', {class: 'board-head', 'aria-hidden': 'true'})
    this.body = element('div', {class: 'board-body'})
    this.ghost = element('div', {class: 'board-ghost', hidden: true})
    this.chosen = element('div', {class: 'board-chosen', hidden: true})
    this.cursor = element('div', {class: 'board-cursor', hidden: true})
    const grid = element('div', {class: 'board-grid view-' + this.view}, this.head, this.body)
    this.scroller = element('div', {class: 'board-scroll', role: 'application', tabindex: '0', 'aria-label': text('label'), 'aria-describedby': 'board-hint'}, grid)
    this.state ??= element('p', {class: 'board-live'})
    this.say ??= element('p', {class: 'board-spoken', role: 'status', 'aria-live': 'polite'})
    this.toast ??= element('div', {class: 'board-toast', role: 'status'})
    this.bar ??= element('div', {class: 'board-bar', role: 'group', 'aria-label': text('selection')})
    const dialogs = [...this.querySelectorAll(':scope > dialog')]
    if (!this.tools) {
      this.tools = element('div', {class: 'board-tools'},
        ...['day', 'week'].map(view => element('a', {href: this.#address({view, room: ''}), class: 'button', 'aria-current': this.view === view && 'page'}, text('view-' + view))),
        element('button', {type: 'button', onclick: () => helpDialog(this)}, text('keys')),
        this.state)
      this.#listen()
    }
    this.hint ??= element('p', {id: 'board-hint', class: 'board-hint'}, text('hint'))
    if (!dialogs.length || !this.contains(this.tools)) this.replaceChildren(this.tools, this.scroller, this.hint, this.bar, this.toast, this.say)
    else this.querySelector(':scope > .board-scroll').replaceWith(this.scroller) // a dialog stays open
    const hours = this.#lanes[0].parts.reduce((n, p) => n + (p.end - p.start) / 3_600_000, 0)
    grid.style.setProperty('--hours', String(Math.round(hours)))
    grid.style.setProperty('--row', rowHeight + 'px')
    this.body.style.setProperty('height', this.#lanes.length * rowHeight + 'px')
    this.scroller.addEventListener('scroll', () => this.#draw(), {passive: true})
    this.scroller.addEventListener('keydown', e => this.#key(e))
    this.body.addEventListener('pointerdown', e => this.#press(e))
    this.body.addEventListener('touchmove', e => { if (this.#drag.phase === 'dragging') e.preventDefault() }, {passive: false})
    this.#drawHead()
    this.#draw()
    if (scrolled) Object.assign(this.scroller, {scrollTop: scrolled.top, scrollLeft: scrolled.left})
    else this.#scrollToNow()
    if (focused) this.scroller.focus({preventScroll: true})
    this.#showState()
    this.#showSelection()
    if (this.#cursor) this.#showCursor()
    this.setAttribute('ready', '')
  }

  // listen is for what outlives a rebuilt board.
  #listen() {
    addEventListener('pointermove', e => this.#pointer(e))
    addEventListener('pointerup', e => this.#pointer(e, 'release'))
    addEventListener('pointercancel', () => this.#step({type: 'cancel'}))
    addEventListener('resize', () => this.#draw())
    addEventListener('beforeprint', () => this.#draw(true))
    addEventListener('afterprint', () => this.#draw())
    document.addEventListener('keydown', e => this.#shortcut(e))
    setInterval(() => this.#showNow(), 30_000)
  }

  // address is that of this board with other parameters.
  #address(changes) {
    const query = new URLSearchParams(location.search)
    for (const [name, value] of Object.entries(changes)) value ? query.set(name, value) : query.delete(name)
    return '?' + query
  }

  #drawHead() {
    const lane = this.#lanes[0]
    const marks = []
    for (const p of lane.parts) {
      for (let at = Math.ceil(p.start / 3_600_000) * 3_600_000; at < p.end; at += 3_600_000) {
        const first = marks.at(-1)?.date !== p.date
        if (this.view === 'week' && !first && time.wallClock(at, this.zone) % 240) continue
        marks.push({date: p.date, at, label: this.view === 'week' && first ? time.dayName(at, this.locale, this.zone) : time.hour(at, this.locale, this.zone), first})
      }
    }
    this.head.replaceChildren(element('div', {class: 'board-corner'}, this.view === 'room' ? lane.room.name : this.text('rooms', {n: this.#lanes.length})),
      this.track = element('div', {class: 'board-ticks'}, ...marks.map(m => {
        const mark = element('span', {class: m.first && this.view === 'week' ? 'day' : ''}, m.label)
        mark.style.setProperty('--at', String(layout.position(lane, m.at)))
        return mark
      })))
  }

  // draw draws the rows in the window that are not drawn yet, and removes those that have left it.
  #draw(all = false) {
    if (!this.scroller) return
    const {first, last} = all ? {first: 0, last: this.#lanes.length} : layout.visible(this.#lanes.length, this.scroller.scrollTop, this.scroller.clientHeight, rowHeight)
    for (const [i, row] of this.#rows) {
      if (i >= first && i < last) continue
      row.remove()
      this.#rows.delete(i)
    }
    const rows = document.createDocumentFragment()
    for (let i = first; i < last; i++) {
      if (this.#rows.has(i)) continue
      const row = this.#row(i)
      this.#rows.set(i, row)
      rows.append(row)
    }
    this.body.append(rows)
    this.#showNow()
    if (this.#drag.ghost) this.#showGhost()
    if (this.#cursor) this.#showCursor()
    if (this.#selection) this.#showSelection()
  }

  #row(i) {
    const lane = this.#lanes[i]
    const facts = [lane.room.capacity && this.text('persons', {n: lane.room.capacity}), this.foreign(lane.room.zone) && lane.room.zone !== this.zone && lane.room.zone].filter(Boolean).join(' · ')
    const row = element('div', {class: 'board-row', 'data-lane': String(i)},
      element('div', {class: 'board-room'}, this.view === 'room'
        ? element('span', {}, lane.label)
        : element('a', {href: this.#address({view: 'room', room: lane.room.roomId}), tabindex: '-1', title: this.text('view-room')}, lane.label), facts && this.view !== 'room' ? element('small', {}, facts) : null),
      element('div', {class: 'board-lane'}))
    row.style.setProperty('top', i * rowHeight + 'px')
    this.#fill(row, lane)
    return row
  }

  // fill puts the blocks of a lane into its row. A block that is there already stays, so that it keeps the focus.
  #fill(row, lane) {
    const track = row.lastElementChild
    const there = new Map([...track.querySelectorAll('.board-block')].map(b => [b.dataset.key, b]))
    for (const s of this.#spans.get(lane.room.roomId) ?? []) {
      if (!layout.shown(lane, s.start, s.end)) continue
      const key = (s.id ?? s.kind + s.start) + (s.kind === 'booking' ? '' : '-')
      let block = there.get(key)
      there.delete(key)
      if (!block) {
        block = element('button', {type: 'button', tabindex: '-1', 'data-key': key})
        if (s.kind === 'booking') block.append(element('span', {class: 'board-edge start'}), element('span', {class: 'board-words'}), element('span', {class: 'board-edge end'}))
        else block.append(element('span', {class: 'board-words'}))
        track.append(block)
      }
      const mine = s.kind === 'booking' && this.user && s.user === this.user
      block.className = `board-block ${s.kind === 'booking' ? 'booking ' + (states[s.status] ?? 'waiting') : s.kind === 'retired' ? 'closed' : s.kind}${mine ? ' mine' : ''}`
      if (s.id) block.dataset.id = s.id
      const words = this.#words(s, lane)
      const label = block.querySelector('.board-words')
      if (label.textContent !== words.short.join(' ')) label.replaceChildren(...words.short.flatMap((word, i) => i ? [' ', element('span', {}, word)] : [element('strong', {}, word)]))
      block.title = words.long
      block.setAttribute('aria-label', words.long)
      this.#span(block, lane, s.start, s.end)
    }
    for (const gone of there.values()) {
      if (gone === document.activeElement) this.scroller.focus({preventScroll: true})
      gone.remove()
    }
  }

  #words(s, lane) {
    const {locale} = this
    const zone = lane.room.zone
    const span = `${time.clock(s.start, locale, zone)}–${time.clock(s.end, locale, zone)}`
    if (s.kind !== 'booking') {
      const why = s.reason || this.text('grey-' + s.kind)
      return {short: s.kind === 'closed' ? [why] : [], long: `${lane.room.name}, ${span}: ${why}`}
    }
    const state = this.text('state-' + (states[s.status] ?? 'waiting'))
    return {short: [s.who, state], long: `${lane.room.name}, ${time.dayName(s.start, locale, zone)}, ${span}, ${s.who}, ${state}`}
  }

  #span(e, lane, start, end) {
    e.style.setProperty('--start', String(layout.position(lane, start)))
    e.style.setProperty('--end', String(layout.position(lane, end)))
  }

  #showNow() {
    const now = Date.now()
    this.#lanes.forEach((lane, i) => {
      const row = this.#rows.get(i)
      if (!row) return
      const inside = lane.parts.some(p => p.start <= now && now < p.end)
      row.classList.toggle('now', inside)
      if (inside) row.style.setProperty('--now', String(layout.position(lane, now)))
    })
  }

  #scrollToNow() {
    const lane = this.#lanes[0]
    const now = Date.now()
    if (!lane.parts.some(p => p.start <= now && now < p.end)) return
    this.scroller.scrollLeft = Math.max(0, layout.position(lane, now) * this.track.offsetWidth - 120)
  }

  #showState() {
    if (!this.state) return
    const stale = live.state === 'stale'
    this.state.textContent = this.text(stale ? 'stale' : 'live')
    this.state.classList.toggle('stale', stale)
  }

  // ---- news

  #changed({roomId, startDtm, endDtm, position}) {
    if (!this.#rooms.has(roomId)) return
    const {start, end} = this.#window()
    if (!startDtm || Date.parse(startDtm) < end && start < Date.parse(endDtm)) this.#refresh(roomId, position)
  }

  // refresh asks about a room again, along with others that change at the same time.
  #refresh(roomId, position) {
    if (!this.#stale.size) setTimeout(() => this.#askAgain(), 30)
    this.#stale.set(roomId, position ?? '0')
    if (BigInt(position ?? 0) > BigInt(this.#position)) this.#position = String(position)
  }

  async #askAgain() {
    const ids = [...this.#stale.keys()]
    this.#stale.clear()
    const news = await this.#ask(ids, this.#position)
    if (!news) {
      setTimeout(() => ids.forEach(id => this.#refresh(id, this.#position)), 1000)
      return
    }
    for (const [id, spans] of news) this.#spans.set(id, spans)
    const before = JSON.stringify(this.#lanes[0]?.parts)
    this.#layOut()
    if (before !== JSON.stringify(this.#lanes[0]?.parts) && this.#drag.phase === 'idle') {
      this.#build()
    } else for (const [i, row] of this.#rows) if (news.has(this.#lanes[i].room.roomId)) this.#fill(row, this.#lanes[i])
    this.dispatchEvent(new CustomEvent('board:refreshed'))
  }

  // ---- what the rules say

  async #rules(id) {
    const room = this.#rooms.get(id)
    if (!room || room.rules || room.asking) return
    room.asking = true
    const {ok, body} = await request(this.base, 'GET', `/rooms/${id}/rules`)
    room.asking = false
    if (ok) room.rules = body
  }

  stepOf(lane) { return (this.#lanes[lane].room.rules?.stepMinutes || defaultStep) * time.minute }

  #obstacles(room, except) { return layout.obstacles(this.#spans.get(room.roomId) ?? [], (room.rules?.gapMinutes ?? 0) * time.minute, except) }

  // free returns the free time around an instant in a room, or null.
  free(room, instant, except) {
    const lane = this.#lanes.find(l => l.room.roomId === room.roomId && l.parts.some(p => p.start <= instant && instant < p.end))
    return lane ? layout.freeAround(this.#obstacles(room, except), instant, {start: lane.parts[0].start, end: lane.parts.at(-1).end}) : {start: instant, end: Infinity}
  }

  nextFree(room, from, duration, except) {
    const lane = this.#lanes.find(l => l.room.roomId === room.roomId && layout.shown(l, from, from + duration))
    return lane ? layout.nextFree(this.#obstacles(room, except), Math.max(from, Date.now()), duration, {start: lane.parts[0].start, end: lane.parts.at(-1).end}) : null
  }

  #world() {
    return {
      snap: (instant, lane) => time.snap(instant, this.stepOf(lane) / time.minute, this.#lanes[lane].room.zone),
      step: lane => this.stepOf(lane),
      free: (lane, instant, except) => {
        const {room, parts} = this.#lanes[lane]
        return layout.freeAround(this.#obstacles(room, except), instant, {start: parts[0].start, end: parts.at(-1).end})
      },
    }
  }

  // ---- pointer

  #place({clientX, clientY}) {
    const box = this.body.getBoundingClientRect()
    const track = this.track.getBoundingClientRect()
    const lane = Math.max(0, Math.min(this.#lanes.length - 1, Math.floor((clientY - box.top) / rowHeight)))
    return {lane, at: layout.instant(this.#lanes[lane], (clientX - track.left) / track.width), x: clientX, y: clientY}
  }

  #press(event) {
    if (event.button !== 0 || event.target.closest('.board-room')) return
    const place = this.#place(event)
    this.#rules(this.#lanes[place.lane].room.roomId)
    const block = event.target.closest('.board-block')
    const press = {type: 'press', touch: event.pointerType === 'touch', ...place}
    if (block) {
      const s = this.#spanOf(block, place.lane)
      if (s?.kind === 'booking') {
        press.booking = {...s, lane: place.lane}
        if (s.status === 'ENDED' || s.status === 'IN_USE') press.span = s // can be seen, and not moved
        else press.edge = event.target.closest('.board-edge.start') ? 'start' : event.target.closest('.board-edge.end') ? 'end' : undefined
      } else press.span = s
    }
    if (press.touch) {
      clearTimeout(this.holding)
      this.holding = setTimeout(() => this.#step({type: 'hold'}), drag.holdTime)
    } else event.preventDefault() // no text is selected
    this.scroller.focus({preventScroll: true})
    this.#step(press)
  }

  #spanOf(block, lane) {
    return (this.#spans.get(this.#lanes[lane].room.roomId) ?? []).find(s => ((s.id ?? s.kind + s.start) + (s.kind === 'booking' ? '' : '-')) === block.dataset.key)
  }

  #pointer(event, type = 'move') {
    if (this.#drag.phase === 'idle') return
    if (type === 'release') {
      clearTimeout(this.holding)
      cancelAnimationFrame(this.frame)
      if (this.#drag.phase === 'dragging' && !this.#drag.keyboard) this.#step({type: 'move', ...this.#place(event)})
      this.#step({type: 'release'})
      return
    }
    cancelAnimationFrame(this.frame)
    this.frame = requestAnimationFrame(() => this.#step({type: 'move', ...this.#place(event)}))
  }

  #step(event) {
    const before = this.#drag
    const next = this.#drag = drag.reduce(before, event, this.#world())
    if (next === before) return
    this.classList.toggle('dragging', next.phase === 'dragging')
    this.classList.toggle('lifted', !!next.lifted)
    this.#showGhost()
    if (next.tap) this.#tap(next.tap)
    if (next.done) this.#finish(next.done)
    if (next.done || next.tap) this.#drag = drag.idle
  }

  #showGhost() {
    const {ghost, kind, from} = this.#drag
    this.ghost.hidden = !ghost
    for (const old of this.querySelectorAll('.board-block.leaving')) old.classList.remove('leaving')
    if (!ghost) return
    const lane = this.#lanes[ghost.lane]
    this.#into(this.ghost, ghost.lane)
    this.#span(this.ghost, lane, ghost.start, ghost.end)
    this.ghost.classList.toggle('blocked', ghost.blocked)
    const minutes = Math.round((ghost.end - ghost.start) / time.minute)
    const again = kind !== 'create' && from.booking.status === 'CONFIRMED' && lane.room.rules?.approval !== 'none'
    const label = `${time.clock(ghost.start, this.locale, lane.room.zone)}–${time.clock(ghost.end, this.locale, lane.room.zone)} · ${this.text('minutes', {n: minutes})}${ghost.blocked ? ' · ' + this.text('not-free') : again ? ' · ' + this.text('approval-again') : ''}`
    if (this.ghost.textContent !== label) this.ghost.textContent = label
    if (kind !== 'create') this.querySelector(`.board-block[data-id="${from.booking.id}"]`)?.classList.add('leaving')
  }

  // into puts something into a lane, if its row is drawn.
  #into(e, lane) {
    const track = this.#rows.get(lane)?.lastElementChild
    if (track && e.parentElement !== track) track.append(e)
    if (!track) e.remove()
  }

  #tap({lane, at, booking, span}) {
    if (booking) {
      this.open(lane, booking)
      return
    }
    if (span) {
      this.#explainGrey(lane, span)
      return
    }
    const world = this.#world()
    const near = world.snap(at, lane)
    const start = near > at ? near - this.stepOf(lane) : near
    const chosen = this.#selection
    if (chosen && chosen.lane === lane && start + this.stepOf(lane) > chosen.start && chosen.tapped) this.#select(lane, chosen.start, start + this.stepOf(lane), false)
    else this.#select(lane, start, start + defaultLength, true)
    this.#cursor = {lane, at: this.#selection?.start ?? start}
    this.#showCursor()
  }

  // ---- the chosen time

  #select(lane, start, end, tapped) {
    const free = this.#world().free(lane, start)
    if (!free) return
    this.#selection = {lane, start: Math.max(start, free.start), end: Math.min(end, free.end), tapped}
    this.#showSelection()
    this.speak(this.#spoken(this.#selection))
  }

  #spoken({lane, start, end}) {
    const {room} = this.#lanes[lane]
    return `${room.name}, ${time.dayName(start, this.locale, room.zone)}, ${time.clock(start, this.locale, room.zone)}–${time.clock(end, this.locale, room.zone)}`
  }

  #showSelection() {
    const s = this.#selection
    this.chosen.hidden = !s
    this.bar.hidden = !s
    if (!s || !this.#lanes[s.lane]) return
    this.#into(this.chosen, s.lane)
    this.#span(this.chosen, this.#lanes[s.lane], s.start, s.end)
    const book = element('button', {type: 'button', class: 'primary', onclick: () => this.#offer(s.lane, s.start, s.end)}, this.text('book'))
    const clear = element('button', {type: 'button', onclick: () => this.#clear()}, this.text('clear'))
    this.bar.replaceChildren(element('span', {}, this.#spoken(s)), s.tapped ? element('small', {}, this.text('tap-end')) : '', book, clear)
  }

  #clear() {
    this.#selection = null
    this.#showSelection()
  }

  async #offer(lane, start, end) {
    const {room} = this.#lanes[lane]
    await this.#rules(room.roomId)
    bookingDialog(this, {room, start, end})
  }

  open(lane, booking) {
    const {room} = this.#lanes[lane]
    bookingDialog(this, {room, start: booking.start, end: booking.end, booking})
  }

  #explainGrey(lane, span) {
    const {room} = this.#lanes[lane]
    const next = this.nextFree(room, span.end, this.stepOf(lane))
    const until = next === null ? this.text('not-free-again') : this.text('free-from', {time: time.clock(next, this.locale, room.zone)})
    this.notify(`${this.#words(span, this.#lanes[lane]).long}. ${until}`)
  }

  #finish({kind, lane, start, end, booking}) {
    const {room} = this.#lanes[lane]
    if (kind === 'create') {
      this.#select(lane, start, end, false)
      this.#offer(lane, start, end)
    } else this.change(booking, {room, start, end}).then(answer => {
      if (!answer.ok) bookingDialog(this, {room, start, end, booking}).dialog.querySelector('.board-problem').textContent = this.explain(answer).sentence
    })
  }

  // ---- keyboard

  #key(event) {
    if (event.target !== this.scroller) return
    const {key, altKey, ctrlKey, shiftKey, metaKey} = event
    if (metaKey) return
    const arrows = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}
    const dragging = this.#drag.phase === 'dragging'
    if (arrows[key]) {
      const [steps, rows] = arrows[key]
      if (altKey) this.#shift(steps, rows, ctrlKey)
      else if (dragging) return
      else if (shiftKey && steps) this.#extend(steps)
      else this.#walk(steps, rows)
    } else if (key === 'Enter' || key === ' ') {
      if (dragging) this.#step({type: 'release'})
      else this.#enter()
    } else if (key === 'Escape' && (dragging || this.#selection)) {
      this.#step({type: 'cancel'})
      this.#clear()
      this.speak(this.text('given-up'))
    } else if (key === 'Home' || key === 'End') {
      const {lane} = this.#at()
      const {parts} = this.#lanes[lane]
      this.#moveCursor(lane, key === 'Home' ? parts[0].start : parts.at(-1).end - this.stepOf(lane))
    } else return
    event.preventDefault()
  }

  // shortcut is for the whole page; letters are not taken from whoever is typing.
  #shortcut(event) {
    if (event.target.closest?.('input, textarea, select, dialog') || event.ctrlKey || event.metaKey || event.altKey) return
    const go = day => location.assign(this.#address({day}))
    if (event.key === '?') helpDialog(this)
    else if (event.key === 't') go(time.dateOf(Date.now(), this.zone))
    else if (event.key === 'PageDown' && event.target === this.scroller) go(time.addDays(this.day, 7))
    else if (event.key === 'PageUp' && event.target === this.scroller) go(time.addDays(this.day, -7))
    else if (event.key === 'w') location.assign(this.#address({view: 'room', room: this.#lanes[this.#at().lane].room.roomId}))
    else if (event.key === 'n') {
      this.scroller.focus()
      const {lane, at} = this.#at()
      this.#moveCursor(lane, at)
      this.#enter()
    } else return
    event.preventDefault()
  }

  #at() {
    if (this.#cursor && this.#lanes[this.#cursor.lane]) return this.#cursor
    const {parts} = this.#lanes[0]
    const now = this.#world().snap(Date.now(), 0)
    return {lane: 0, at: parts.some(p => p.start <= now && now < p.end) ? now : parts[0].start}
  }

  #walk(steps, rows) {
    const before = this.#cursor ? this.#at() : null
    if (!before) {
      const {lane, at} = this.#at()
      this.#moveCursor(lane, at)
      return
    }
    const lane = Math.max(0, Math.min(this.#lanes.length - 1, before.lane + rows))
    let at = before.at
    if (this.view === 'room' && rows) at = this.#lanes[lane].parts[0].start + (at - this.#lanes[before.lane].parts[0].start)
    at += steps * this.stepOf(lane)
    const {parts} = this.#lanes[lane]
    const part = parts.find(p => p.start <= at && at < p.end)
    if (!part) at = steps > 0 ? parts.find(p => p.start > at)?.start ?? parts.at(-1).end - this.stepOf(lane) : (parts.findLast(p => p.end <= at)?.end ?? parts[0].start + this.stepOf(lane)) - this.stepOf(lane)
    this.#moveCursor(lane, at)
  }

  #moveCursor(lane, at) {
    this.#cursor = {lane, at}
    this.#rules(this.#lanes[lane].room.roomId)
    const top = lane * rowHeight
    const {scroller} = this
    const headHeight = this.head.offsetHeight
    if (top < scroller.scrollTop) scroller.scrollTop = top
    if (top + rowHeight + headHeight > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + rowHeight + headHeight - scroller.clientHeight
    const x = layout.position(this.#lanes[lane], at) * this.track.offsetWidth
    const room = scroller.clientWidth - this.head.firstElementChild.offsetWidth
    if (x < scroller.scrollLeft || x > scroller.scrollLeft + room - 40) scroller.scrollLeft = Math.max(0, x - room / 2)
    this.#draw()
    const s = this.#here()
    const {room: of} = this.#lanes[lane]
    this.speak(s ? this.#words(s, this.#lanes[lane]).long : `${of.name}, ${time.dayName(at, this.locale, of.zone)}, ${time.clock(at, this.locale, of.zone)}, ${this.text('free-word')}`)
  }

  #showCursor() {
    const {lane, at} = this.#cursor
    if (!this.#lanes[lane]) return
    this.cursor.hidden = false
    this.#into(this.cursor, lane)
    this.#span(this.cursor, this.#lanes[lane], at, at + this.stepOf(lane))
  }

  // here returns what takes the room at the cursor; a booking comes before what is grey.
  #here() {
    const {lane, at} = this.#at()
    const all = (this.#spans.get(this.#lanes[lane].room.roomId) ?? []).filter(s => s.start <= at && at < s.end)
    return all.find(s => s.kind === 'booking') ?? all[0]
  }

  #enter() {
    const {lane, at} = this.#at()
    const s = this.#here()
    if (this.#selection && this.#selection.lane === lane) this.#offer(lane, this.#selection.start, this.#selection.end)
    else if (s?.kind === 'booking') this.open(lane, {...s, lane})
    else if (s) this.#explainGrey(lane, s)
    else {
      const free = this.#world().free(lane, at)
      this.#offer(lane, at, Math.min(at + defaultLength, free?.end ?? Infinity))
    }
  }

  #extend(steps) {
    const {lane, at} = this.#at()
    const chosen = this.#selection?.lane === lane ? this.#selection : {start: at, end: at}
    const end = Math.max(chosen.start + this.stepOf(lane), chosen.end + steps * this.stepOf(lane))
    this.#select(lane, chosen.start, end, false)
  }

  #shift(steps, rows, resize) {
    const s = this.#drag.phase === 'dragging' ? this.#drag.from.booking : this.#here()
    if (!s || s.kind !== 'booking' || s.status === 'ENDED' || s.status === 'IN_USE') return
    const now = this.#drag.ghost?.lane ?? this.#at().lane
    const lane = resize ? now : Math.max(0, Math.min(this.#lanes.length - 1, now + rows))
    this.#step({type: 'shift', booking: {...s, lane: s.lane ?? now}, steps, lane, edge: resize ? 'end' : undefined})
    const {ghost} = this.#drag
    if (!ghost) return
    this.#cursor = {lane: ghost.lane, at: ghost.start}
    this.#draw()
    this.speak(this.#spoken(ghost) + (ghost.blocked ? ', ' + this.text('not-free') : ''))
  }

  // ---- commands

  async book({room, start, end, user, key}) {
    const answer = await request(this.base, 'POST', '/bookings', {key, body: {roomId: room.roomId, useStartDtm: time.iso(start), useEndDtm: time.iso(end), bookingUserId: user}})
    if (answer.ok) {
      this.#clear()
      this.#refresh(room.roomId, answer.position)
      const {bookingId} = answer.body
      this.notify(this.text('booked', {room: room.name, time: time.clock(start, this.locale, room.zone)}), () => this.#drop(bookingId, room.roomId, answer.etag))
    } else if (answer.status === 409) this.#refresh(room.roomId, this.#position)
    return answer
  }

  async #drop(id, roomId, etag) {
    const answer = await request(this.base, 'DELETE', '/bookings/' + id, {etag})
    if (answer.ok) this.#refresh(roomId, answer.position)
    this.notify(answer.ok ? this.text('undone') : this.explain(answer).sentence)
  }

  async change(booking, {room, start, end, user}) {
    const before = await request(this.base, 'GET', '/bookings/' + booking.id)
    if (!before.ok) return before
    const old = before.body
    const body = {roomId: room.roomId, useStartDtm: time.iso(start), useEndDtm: time.iso(end)}
    if (user) body.bookingUserId = user
    const send = (body, etag) => request(this.base, 'PATCH', '/bookings/' + booking.id, {etag, body})
    const answer = await send(body, before.etag)
    const both = position => [room.roomId, old.roomId].forEach(id => this.#refresh(id, position))
    both(answer.ok ? answer.position : this.#position)
    if (answer.ok) {
      this.notify(this.text('changed', {room: room.name, time: time.clock(start, this.locale, room.zone)}), async () => {
        const back = await send({roomId: old.roomId, useStartDtm: old.useStartDtm, useEndDtm: old.useEndDtm, bookingUserId: old.bookingUserId}, answer.etag)
        if (back.ok) both(back.position)
        this.notify(back.ok ? this.text('undone') : this.explain(back).sentence)
      })
    }
    return answer
  }

  async cancel(booking) {
    const {ok, body, ...rest} = await request(this.base, 'GET', '/bookings/' + booking.id)
    if (!ok) return {ok, body, ...rest}
    const answer = await request(this.base, 'DELETE', '/bookings/' + booking.id, {etag: rest.etag})
    if (answer.ok) {
      this.#refresh(body.roomId, answer.position)
      const {roomId, useStartDtm, useEndDtm, bookingUserId} = body
      this.notify(this.text('cancelled'), async () => {
        const again = await request(this.base, 'POST', '/bookings', {body: {roomId, useStartDtm, useEndDtm, bookingUserId}})
        if (again.ok) this.#refresh(roomId, again.position)
        this.notify(again.ok ? this.text('booked-again') : this.explain(again).sentence)
      })
    }
    return answer
  }

  async endUse(booking) {
    const {ok, body, ...rest} = await request(this.base, 'GET', '/bookings/' + booking.id)
    if (!ok) return {ok, body, ...rest}
    const use = new URL(body._links.realUse.href, location.href).pathname.split('/').at(-1)
    return request(this.base, 'PATCH', '/realuses/' + use, {body: {}})
  }

  // explain returns a problem as a sentence, and where more is said about it.
  explain({status, body}) {
    if (!status) return {sentence: this.text('offline')}
    const link = body?.type && new URL(body.type, location.href).href
    const kind = link?.split('/').at(-1)
    const zone = this.zone
    if (kind === 'slot-taken') {
      const by = body.conflictsWith?.[0]
      if (by) return {link, sentence: this.text('taken', {from: time.clock(Date.parse(by.useStartDtm), this.locale, zone), to: time.clock(Date.parse(by.useEndDtm), this.locale, zone)})}
    }
    const known = this.#texts['board.problem-' + kind]
    return {link, sentence: known ?? body?.detail ?? body?.title ?? this.text('failed')}
  }

  // ---- what is said

  speak(words) { this.say.textContent = words }

  // #who is whom a booking is for, as far as the reader may know.
  #who(span) {
    if (span.private) return this.text('private')
    return span.bookingUserName === null ? this.text('former-user') : span.bookingUserName ?? span.bookingUserId
  }

  // notify shows a sentence and, for 10 s, how to undo what it says.
  notify(words, undo) {
    clearTimeout(this.forget)
    const hide = () => this.toast.replaceChildren()
    this.toast.replaceChildren(element('span', {}, words), undo ? element('button', {type: 'button', onclick: () => {
      hide()
      undo()
    }}, this.text('undo')) : '')
    this.forget = setTimeout(hide, undoTime)
  }
}

customElements.define('room-board', RoomBoard)
