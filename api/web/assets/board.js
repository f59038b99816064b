// The board: <room-board> shows who has which room when, and books by mouse, touch and keyboard. What the server has sent inside it stays until
// the first answer has come, and for whoever has no script.

import * as time from './time.js'
import * as layout from './layout.js'
import * as drag from './drag.js'
import {live} from './live.js'
import {show} from './favourite.js'
import {request} from './request.js'
import {element, bookingDialog, helpDialog, draft} from './dialog.js'

const rowHeight = 48
const undoTime = 10_000
const finger = 44 // pixels
const defaultStep = 15
const defaultLength = 60 * time.minute
const roomsPerQuestion = 100
const states = {BOOKED: 'waiting', CONFIRMED: 'confirmed', IN_USE: 'in-use', ENDED: 'ended'}

// hoursOf is how many hours a lane shows.
const hoursOf = lane => Math.round(layout.length(lane) / 3_600_000)

class RoomBoard extends HTMLElement {
  #rooms = new Map() // by id
  #lanes = []
  #spans = new Map() // by room id
  #rows = new Map() // those that are drawn, by index
  #drag = drag.idle
  #sent = null // a move that the server has not answered, as the drag was at its end
  #cursor = null // {lane, at}
  #selection = null // {lane, start, end}
  #favourites = new Set() // rooms
  #changes = new Set() // rooms in which the reader may change bookings of others, or * for all
  #stale = new Set() // rooms to ask about again
  #position = '0'
  #texts = {}

  connectedCallback() {
    if (this.#texts.ready) return
    const texts = document.getElementById('board-text')
    this.#texts = {...(texts ? JSON.parse(texts.textContent) : {}), ready: true}
    const {base, zone, view, day, user, language, accounts, changes, starred} = this.dataset
    Object.assign(this, {base: base ?? '', zone, view: view || 'day', day, user: user ?? '', locale: language || 'en', accounts: accounts !== undefined})
    this.#changes = new Set(changes?.split(' '))
    this.#favourites = new Set(starred?.split(' '))
    this.columns = this.view === 'room' // the lanes are columns, and time goes down
    this.capacity = Number(new URLSearchParams(location.search).get('capacity')) || 0
    this.#position = document.documentElement.dataset.position ?? '0'
    document.addEventListener('roombook:change', e => this.#changed(e.detail))
    document.addEventListener('roombook:resync', ({detail}) => {
      if (detail.back) this.#forget()
      this.#reach(detail.position)
      this.#load()
    })
    document.addEventListener('roombook:state', () => this.#showState())
    document.addEventListener('roombook:favourite', ({detail: {room, is}}) => {
      is ? this.#favourites.add(room) : this.#favourites.delete(room)
      this.speak(this.text(is ? 'favourite-now' : 'favourite-no-more', {room: this.room(room)?.name}))
    })
    this.#load()
  }

  text = (key, values = {}) => (this.#texts['board.' + key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '')

  // foreign reports whether the reader's clock shows another time than that of a zone.
  foreign(zone) {
    const now = Date.now()
    return time.offset(now, zone) !== time.offset(now, time.readersZone)
  }

  room(id) { return this.#rooms.get(id) }

  seats({capacity}) { return this.text(capacity === 1 ? 'seat' : 'seats', {n: capacity}) }

  // ---- what is shown

  async #load() {
    const filters = new URLSearchParams({size: '200', sort: 'building'})
    for (const [name, value] of new URLSearchParams(location.search)) {
      if (['building', 'capacity', 'equipment', 'text', 'floor'].includes(name) && value) filters.set(name, value)
    }
    let found = []
    for (let path = '/rooms?' + filters; path; ) {
      const answer = await request(this.base, 'GET', path)
      if (!answer.ok) return this.#failed(answer)
      const {body} = answer
      found.push(...body._embedded.rooms)
      const next = body._links.next && new URL(body._links.next.href, location.href)
      path = next && '/rooms' + next.search
    }
    const first = ({roomId}) => this.#favourites.has(roomId)
    if (new URLSearchParams(location.search).get('favourites') === '1') found = found.filter(first)
    this.all = found.toSorted((a, b) => first(b) - first(a))
    const only = this.columns ? new URLSearchParams(location.search).get('room') : null
    const rooms = this.columns ? [found.find(r => r.roomId === only) ?? found[0]].filter(Boolean) : found
    if (!rooms.length) return // the page says what to do
    const before = this.#rooms
    if ([...before.keys()].join() !== rooms.map(r => r.roomId).join()) { // lanes have other numbers
      this.#step({type: 'cancel'})
      this.#cursor = this.#selection = null
    }
    this.#rooms = new Map(rooms.map(r => [r.roomId, {...r, zone: r.zone || this.zone, rules: before.get(r.roomId)?.rules}]))
    const spans = await this.#ask([...this.#rooms.keys()])
    if (!spans) return
    this.#spans = spans
    this.#layOut()
    this.#build()
    this.#resume()
    if (this.#rooms.size <= 12) for (const id of this.#rooms.keys()) this.#rules(id)
    this.dispatchEvent(new CustomEvent('board:refreshed'))
  }

  // failed loads the board again after a while, unless that would be refused again: whoever signs in again gets a resync, and a filter that is
  // wrong stays so.
  #failed({status, body}) {
    const lost = body?.type?.endsWith('/no-such-position')
    if (lost) this.#forget()
    else if ([400, 401, 403].includes(status)) return
    clearTimeout(this.retry)
    this.retry = setTimeout(() => this.#load(), 2000)
  }

  // forget makes any answer newer than what is shown: a backup of the log was restored, so the positions known are no longer valid.
  #forget() {
    this.#position = '0'
    this.#spans = new Map()
  }

  #dates() { return this.view === 'day' ? [this.day] : time.weekOf(this.day, this.locale) }

  // window is all the time of the days that are shown.
  #window() {
    const dates = this.#dates()
    return {start: time.at(dates[0], 0, this.zone), end: time.at(time.addDays(dates.at(-1), 1), 0, this.zone)}
  }

  // ask returns what takes rooms, by room, or null if there is no answer, which makes the board load again.
  async #ask(ids) {
    const {start, end} = this.#window()
    const position = this.#position === '0' ? '' : this.#position
    const spans = new Map()
    const asked = []
    for (let i = 0; i < ids.length; i += roomsPerQuestion) {
      const query = new URLSearchParams([['from', time.iso(start)], ['to', time.iso(end)], ...ids.slice(i, i + roomsPerQuestion).map(id => ['roomId', id])])
      asked.push(request(this.base, 'GET', '/occupancy?' + query, {position}))
    }
    for (const answer of await Promise.all(asked)) {
      if (!answer.ok) {
        this.#failed(answer)
        return null
      }
      const {body, position} = answer
      this.#reach(position)
      for (const r of body._embedded.rooms) {
        const shown = this.#spans.get(r.roomId)
        const older = Number(shown?.position) > Number(position) // than the answer to a later question
        const room = this.#rooms.get(r.roomId)
        if (room && !older) Object.assign(room, {zone: r.zone, faults: (r.faults ?? []).map(f => [f.equipment, f.text].filter(Boolean).join(': ') || this.text('faults-else')).join(' · ')})
        spans.set(r.roomId, older ? shown : Object.assign(r.spans.map(s => ({
          kind: s.kind, start: Date.parse(s.startDtm), end: Date.parse(s.endDtm), id: s.bookingId, user: s.bookingUserId, who: this.#who(s), status: s.status, reason: s.reason,
          locked: s.bookingUserId !== this.user && !this.#changes.has('*') && !this.#changes.has(r.roomId), // the reader may see it, and no more
        })), {position}))
      }
    }
    return spans
  }

  #layOut() {
    const dates = this.#dates()
    const {start, minutes} = time.day(this.day, this.zone)
    let from = time.wallClock(start + this.dataset.from * time.minute, this.zone)
    let to = this.dataset.to >= minutes ? 1440 : time.wallClock(start + this.dataset.to * time.minute, this.zone)
    for (const date of dates) { // no booking is hidden
      const {start, minutes} = time.day(date, this.zone)
      const end = start + minutes * time.minute
      let [first, last] = [end, start]
      for (const spans of this.#spans.values()) {
        for (const s of spans) {
          if (s.kind !== 'booking' || s.end <= start || s.start >= end) continue
          first = Math.min(first, s.start)
          last = Math.max(last, s.end)
        }
      }
      if (first < end) from = Math.min(from, first <= start ? 0 : Math.floor(time.wallClock(first, this.zone) / 60) * 60)
      if (last > start) to = Math.max(to, last >= end ? 1440 : Math.ceil(time.wallClock(last, this.zone) / 60) * 60)
    }
    const part = date => ({
      date,
      start: time.at(date, from, this.zone),
      end: to === 1440 ? time.at(time.addDays(date, 1), 0, this.zone) : time.at(date, to, this.zone),
    })
    const rooms = [...this.#rooms.values()]
    this.#lanes = this.columns
      ? dates.map(date => ({room: rooms[0], date, parts: [part(date)], label: time.dayName(time.at(date, 0, this.zone), this.locale, this.zone)}))
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
    this.shield ??= element('div', {class: 'board-shield', hidden: true}) // has the cursor of a drag, so that no other element needs it
    this.bar ??= element('div', {class: 'board-bar', role: 'group', 'aria-label': text('selection')})
    if (!this.tools) {
      const room = this.#lanes[0].room.roomId
      this.tools = element('div', {class: 'board-tools'},
        element('div', {class: 'board-views'}, ...['day', 'week', 'room'].map(view =>
          element('a', {href: this.#address({view, room: view === 'room' && room}), class: 'button', 'aria-current': this.view === view && 'page'}, text('view-' + view)))),
        this.columns ? element('select', {'aria-label': text('room'), onchange: e => location.assign(this.#address({room: e.target.value}))},
          ...this.all.map(r => element('option', {value: r.roomId, selected: r.roomId === room}, (this.#favourites.has(r.roomId) ? '★ ' : '') + r.name))) : null,
        this.columns ? this.#star(this.#lanes[0].room) : null,
        element('button', {type: 'button', class: 'board-keys', onclick: () => helpDialog(this)}, text('keys')),
        this.state)
      this.#listen()
    }
    this.hint ??= element('p', {id: 'board-hint', class: 'board-hint'}, text('hint'))
    if (this.contains(this.tools)) this.querySelector(':scope > .board-scroll').replaceWith(this.scroller) // a dialog stays open
    else this.replaceChildren(this.tools, this.scroller, this.hint, this.bar, this.toast, this.say, this.shield)
    grid.style.setProperty('--hours', String(hoursOf(this.#usual)))
    grid.style.setProperty('--row', rowHeight + 'px')
    if (!this.columns) this.body.style.setProperty('height', this.#lanes.length * rowHeight + 'px')
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

  // usual is a lane whose clock all have, but for the day of a week on which it is changed, which is at its ends.
  get #usual() { return this.#lanes[Math.floor(this.#lanes.length / 2)] }

  #drawHead() {
    const today = time.dateOf(Date.now(), this.zone)
    this.track = this.columns
      ? element('div', {class: 'board-ticks'}, ...this.#lanes.map(l => element('a', {class: l.date === today ? 'today' : '', href: this.#address({view: 'day', day: l.date, room: ''}), tabindex: '-1'}, l.label)))
      : element('div', {class: 'board-ticks'}, ...this.#marks(this.#usual))
    this.head.replaceChildren(element('div', {class: 'board-corner'}, this.columns ? '' : this.text('rooms', {n: this.#lanes.length})), this.track)
    if (this.columns) this.body.prepend(element('div', {class: 'board-clock', 'aria-hidden': 'true'}, ...this.#marks(this.#usual)))
  }

  // marks are the hours beside a lane.
  #marks(lane) {
    const marks = []
    let date
    for (const p of lane.parts) {
      for (let at = p.start + (60 - time.wallClock(p.start, this.zone) % 60) % 60 * time.minute; at < p.end; at += 60 * time.minute) {
        const first = this.view === 'week' && date !== p.date
        if (this.view === 'week' && !first && time.wallClock(at, this.zone) % 240) continue
        date = p.date
        const mark = element('span', {class: first ? 'day' : ''}, first ? time.dayName(at, this.locale, this.zone) : time.hour(at, this.locale, this.zone))
        mark.style.setProperty('--at', String(layout.position(lane, at)))
        marks.push(mark)
      }
    }
    return marks
  }

  // draw draws the rows in the window that are not drawn yet, and removes those that have left it.
  #draw(all = false) {
    if (!this.scroller) return
    const {first, last} = all ? {first: 0, last: this.#lanes.length} : layout.visible(this.#lanes.length, this.scroller.scrollTop, this.scroller.clientHeight, rowHeight)
    let changed = false
    for (const [i, row] of this.#rows) {
      if (i >= first && i < last) continue
      row.remove()
      this.#rows.delete(i)
      changed = true
    }
    const rows = document.createDocumentFragment()
    for (let i = first; i < last; i++) {
      if (this.#rows.has(i)) continue
      const row = this.#row(i)
      this.#rows.set(i, row)
      rows.append(row)
      changed = true
    }
    if (!changed) return
    this.body.append(rows)
    this.#showNow()
    this.#showGhost()
    if (this.#cursor) this.#showCursor()
    if (this.#selection) this.#showChosen()
  }

  // star is a button that makes a room a favourite, or none any more; null if the reader may have none.
  #star({roomId, name}) {
    if (!document.getElementById('favourites')) return null
    const star = element('button', {class: 'star', form: 'favourites', formaction: `${this.base}/rooms/${roomId}/favourite`, name: 'favourite', tabindex: this.columns ? undefined : '-1', 'aria-label': this.text('favourite', {room: name})})
    show(star, this.#favourites.has(roomId))
    return star
  }

  #row(i) {
    const lane = this.#lanes[i]
    const facts = [lane.room.capacity && this.seats(lane.room), this.foreign(lane.room.zone) && lane.room.zone !== this.zone && lane.room.zone].filter(Boolean).join(' · ')
    const row = element('div', {class: 'board-row', 'data-lane': String(i)},
      this.columns ? null : element('div', {class: 'board-room'},
        element('a', {href: this.#address({view: 'room', room: lane.room.roomId}), tabindex: '-1', title: this.text('week-of-room')}, lane.label), facts ? element('small', {}, facts) : null, this.#star(lane.room)),
      element('div', {class: 'board-lane'}))
    if (!this.columns) {
      row.firstElementChild.append(element('span', {class: 'board-faulty', role: 'img'}, '⚠'))
      row.style.setProperty('top', i * rowHeight + 'px')
    }
    else if (hoursOf(lane) !== hoursOf(this.#usual)) { // the clock is changed on this day
      row.style.setProperty('--hours', String(hoursOf(lane)))
      row.lastElementChild.append(...this.#marks(lane))
    }
    this.#fill(row, lane)
    return row
  }

  // fill puts the blocks of a lane into its row. A block that is there already stays, so that it keeps the focus.
  #fill(row, lane) {
    const faulty = row.querySelector('.board-faulty')
    if (faulty) {
      faulty.hidden = !lane.room.faults
      faulty.title = faulty.ariaLabel = this.text('faults', {what: lane.room.faults})
    }
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
    const now = Date.now()
    const lane = this.#lanes.findIndex(l => l.parts.some(p => p.start <= now && now < p.end))
    const at = lane < 0 ? 0 : layout.position(this.#lanes[lane], now)
    if (this.columns) {
      const day = this.#lanes.findIndex(l => l.date === this.day)
      this.scroller.scrollTop = at * this.body.offsetHeight - 120
      this.scroller.scrollLeft = day / this.#lanes.length * this.track.offsetWidth
    } else this.scroller.scrollLeft = at * this.track.offsetWidth - 120
  }

  #showState() {
    if (!this.state) return
    const {sentence, link, label} = live.state === 'signed-out' ? this.explain({status: 401}) : {sentence: this.text(live.state === 'stale' ? 'stale' : 'live')}
    this.state.replaceChildren(sentence, ...(link ? [' ', element('a', {href: link}, label)] : []))
    this.state.classList.toggle('stale', live.state === 'stale' || !!link)
  }

  // ---- news

  #changed({roomId, startDtm, endDtm, position}) {
    this.#reach(position) // also before there are rooms, which are asked about then
    if (!this.#rooms.has(roomId)) return
    const {start, end} = this.#window()
    if (!startDtm || Date.parse(startDtm) < end && start < Date.parse(endDtm)) this.#refresh(roomId)
  }

  // refresh asks about a room again, along with others that change at the same time.
  #refresh(roomId, position) {
    if (!this.#stale.size) setTimeout(() => this.#askAgain(), 30)
    this.#stale.add(roomId)
    this.#reach(position)
  }

  // reach notes that lists are to have reached a position.
  #reach(position) {
    if (BigInt(position || 0) > BigInt(this.#position)) this.#position = String(position)
  }

  async #askAgain() {
    const ids = [...this.#stale]
    this.#stale.clear()
    const news = await this.#ask(ids)
    if (!news) return
    for (const [id, spans] of news) this.#spans.set(id, spans)
    const before = JSON.stringify(this.#lanes[0]?.parts)
    this.#layOut()
    if (before !== JSON.stringify(this.#lanes[0]?.parts) && this.#drag.phase === 'idle') {
      this.#build()
    } else for (const [i, row] of this.#rows) if (news.has(this.#lanes[i].room.roomId)) this.#fill(row, this.#lanes[i])
    if (this.#selection) this.#showChosen()
    this.dispatchEvent(new CustomEvent('board:refreshed'))
  }

  // ---- what the rules say

  async #rules(id) {
    const room = this.#rooms.get(id)
    if (!room || room.rules || room.asking) return
    room.asking = true
    const {ok, body} = await request(this.base, 'GET', `/rooms/${id}/rules`)
    room.asking = false
    if (!ok) return
    room.rules = body
    this.#showGhost()
    this.dispatchEvent(new CustomEvent('board:rules'))
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
      carry: (instant, from, to) => this.#beside(instant, from, to),
      free: (lane, instant, except) => {
        const {room, parts} = this.#lanes[lane]
        return layout.freeAround(this.#obstacles(room, except), instant, {start: parts[0].start, end: parts.at(-1).end})
      },
    }
  }

  // beside returns the instant of a lane that is beside that of another: the same one, or the same wall clock on another day.
  #beside(instant, from, to) {
    return this.columns && from !== to ? time.at(this.#lanes[to].date, time.wallClock(instant, this.zone), this.zone) : instant
  }

  // others returns the other rooms of the board that are free at a time; those that seat as many or a few more come first.
  others(room, start, end) {
    const seats = r => (r.capacity ?? 0) < (room.capacity ?? 0) ? Infinity : r.capacity ?? 0
    return [...this.#rooms.values()].filter(r => r.roomId !== room.roomId && this.fits(r, start, end)).sort((a, b) => seats(a) - seats(b) || 0)
  }

  // fits reports whether a time is free in a room, and its rules, as far as they are known, allow it.
  fits(room, start, end, except) {
    const free = this.free(room, start, except)
    return !!free && free.end >= end && !layout.broken(room.rules ?? {}, start, end, Date.now())
  }

  // inWay returns the booking that takes a part of a time in a room.
  inWay(room, start, end, except) {
    return (this.#spans.get(room.roomId) ?? []).find(s => s.kind === 'booking' && s.id !== except && s.start < end && start < s.end)
  }

  // forbids says which rule of a room forbids a time, if one is known to.
  forbids(room, start, end) {
    const broken = layout.broken(room.rules ?? {}, start, end, Date.now())
    return broken && this.rule(broken)
  }

  // rule is a rule in words, or empty if there are none for it.
  rule({rule, limit}) {
    return this.#texts['board.rule-' + rule] ? this.text('rule-' + rule, {length: this.duration(limit), n: limit}) : ''
  }

  // duration is a number of minutes in words.
  duration(minutes) {
    for (const [unit, length] of [['days', 1440], ['hours', 60]]) if (minutes >= length && minutes % length === 0) return this.text(unit, {n: minutes / length})
    return this.text('minutes', {n: minutes})
  }

  // ---- pointer

  // place is the lane and the time under a pointer. In a lane that is given it is the time beside the pointer.
  #place({clientX, clientY}, lane) {
    const box = this.body.getBoundingClientRect()
    const track = this.track.getBoundingClientRect()
    const count = this.#lanes.length
    const across = this.columns ? (clientX - track.left) / track.width * count : (clientY - box.top) / rowHeight
    const along = this.columns ? (clientY - box.top) / box.height : (clientX - track.left) / track.width
    lane ??= Math.max(0, Math.min(count - 1, Math.floor(across)))
    return {lane, at: layout.instant(this.#lanes[lane], along), x: clientX, y: clientY}
  }

  #press(event) {
    if (event.button !== 0 || event.target.closest('.board-room, .board-swap, .board-clock')) return
    const place = this.#place(event)
    this.#rules(this.#lanes[place.lane].room.roomId)
    const block = this.#blockAt(event, place.lane)
    const press = {type: 'press', touch: event.pointerType === 'touch', ...place}
    if (block) {
      const s = this.#spanOf(block, place.lane)
      if (s?.kind === 'booking') {
        press.booking = {...s, lane: place.lane}
        if (s.locked || s.status === 'ENDED' || s.status === 'IN_USE') press.span = s // can be seen, and not moved
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

  // blockAt is the block that a press is on. To a finger, which is wide, a booking that is narrower reaches into the free time beside it, of which
  // half stays free.
  #blockAt(event, lane) {
    const block = event.target.closest('.board-block')
    const row = this.#rows.get(lane)
    if (block || event.pointerType !== 'touch' || !row) return block
    const [start, end, at] = this.columns ? ['top', 'bottom', event.clientY] : ['left', 'right', event.clientX]
    const track = row.lastElementChild.getBoundingClientRect()
    const boxes = [...row.querySelectorAll('.board-block')].map(block => ({block, box: block.getBoundingClientRect()}))
    const free = Math.min(track[end], ...boxes.map(b => b.box[start]).filter(s => s >= at)) - Math.max(track[start], ...boxes.map(b => b.box[end]).filter(e => e <= at))
    let [nearest, least] = [null, free / 4]
    for (const {block, box} of boxes) {
      const apart = Math.max(box[start] - at, at - box[end])
      if (block.dataset.id && apart <= least && apart <= (finger - (box[end] - box[start])) / 2) [nearest, least] = [block, apart]
    }
    return nearest
  }

  #spanOf(block, lane) {
    return (this.#spans.get(this.#lanes[lane].room.roomId) ?? []).find(s => ((s.id ?? s.kind + s.start) + (s.kind === 'booking' ? '' : '-')) === block.dataset.key)
  }

  #pointer(event, type = 'move') {
    if (this.#drag.phase === 'idle' || this.#drag.keyboard) return
    const {from} = this.#drag
    const lane = from.booking && !from.edge ? undefined : from.lane // all else stays in its lane
    if (type === 'release') {
      clearTimeout(this.holding)
      cancelAnimationFrame(this.frame)
      this.#step({type: 'move', ...this.#place(event, lane)}) // there may have been no frame since it was pressed
      this.#step({type: 'release'})
      return
    }
    cancelAnimationFrame(this.frame)
    this.frame = requestAnimationFrame(() => this.#step({type: 'move', ...this.#place(event, lane)}))
  }

  #step(event) {
    const before = this.#drag
    const next = this.#drag = drag.reduce(before, event, this.#world())
    if (next === before) return
    this.shield.hidden = next.phase !== 'dragging' || !!next.keyboard
    this.ghost.classList.toggle('lifted', !!next.lifted)
    this.#showGhost()
    if (next.tap) this.#tap(next.tap)
    if (next.done) {
      this.#sent = next.done.kind === 'create' ? null : {...before, ghost: next.done}
      this.#finish(next.done)
    }
    if (next.done || next.tap) this.#drag = drag.idle
  }

  #showGhost() {
    const sending = !this.#drag.ghost
    const {ghost, kind, from} = sending ? this.#sent ?? {} : this.#drag
    this.ghost.hidden = !ghost
    const old = ghost && from.booking && this.body.querySelector(`.board-block[data-id="${from.booking.id}"]`)
    if (this.leaving && this.leaving !== old) this.leaving.classList.remove('leaving')
    this.leaving = old
    if (!ghost) return
    old?.classList.add('leaving')
    const lane = this.#lanes[ghost.lane]
    this.#into(this.ghost, ghost.lane)
    this.#span(this.ghost, lane, ghost.start, ghost.end)
    const why = sending ? this.text('sending') : this.#notes(ghost, kind, from)
    this.ghost.classList.toggle('blocked', !sending && (ghost.blocked || !!this.forbids(lane.room, ghost.start, ghost.end)))
    const minutes = Math.round((ghost.end - ghost.start) / time.minute)
    const label = `${time.clock(ghost.start, this.locale, lane.room.zone)}–${time.clock(ghost.end, this.locale, lane.room.zone)} · ${this.duration(minutes)}${why && ' · ' + why}`
    if (this.ghost.textContent !== label) this.ghost.textContent = label
  }

  // notes says why a ghost may not be where it is, or what it would need there.
  #notes({lane, start, end, blocked}, kind, from) {
    const {room} = this.#lanes[lane]
    if (blocked) return this.text('not-free')
    const rule = this.forbids(room, start, end)
    if (rule) return rule
    return kind !== 'create' && from.booking.status === 'CONFIRMED' && room.rules?.approval !== 'none' ? this.text('approval-again') : ''
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
    this.bar.hidden = !s
    this.#showChosen()
    if (!s) return
    const book = element('button', {type: 'button', class: 'primary', onclick: () => this.#offer(s.lane, s.start, s.end)}, this.text('book'))
    const clear = element('button', {type: 'button', onclick: () => this.#clear()}, this.text('clear'))
    this.bar.replaceChildren(element('span', {}, this.#spoken(s)), s.tapped ? element('small', {}, this.text('tap-end')) : '', book, clear)
  }

  // showChosen draws the chosen time and, in the other rooms that are free then, a button each that chooses them instead.
  #showChosen() {
    const s = this.#selection
    this.chosen.hidden = !s
    for (const old of this.body.querySelectorAll('.board-swap')) old.remove()
    if (!s) return
    const {locale} = this
    const {zone} = this.#lanes[s.lane].room
    this.#into(this.chosen, s.lane)
    this.#span(this.chosen, this.#lanes[s.lane], s.start, s.end)
    this.chosen.textContent = `${time.clock(s.start, locale, zone)}–${time.clock(s.end, locale, zone)}`
    if (this.columns) return
    for (const [i, row] of this.#rows) {
      const {room} = this.#lanes[i]
      if (i === s.lane || !this.fits(room, s.start, s.end)) continue
      const label = this.text('swap', {room: room.name})
      const swap = element('button', {type: 'button', class: 'board-swap', tabindex: '-1', title: label, 'aria-label': label, onclick: () => this.#select(i, s.start, s.end, s.tapped)}, '+')
      this.#span(swap, this.#lanes[i], s.start, s.end)
      row.lastElementChild.append(swap)
    }
  }

  #clear() {
    this.#selection = null
    this.#showSelection()
  }

  #offer(lane, start, end) {
    this.#dialog({room: this.#lanes[lane].room, start, end}, this.#selection ? this.chosen : this.cursor)
  }

  open(lane, booking) {
    this.#dialog({room: this.#lanes[lane].room, start: booking.start, end: booking.end, booking}, this.body.querySelector(`.board-block[data-id="${booking.id}"]`))
  }

  // dialog opens a dialog beside something, at once. It says more when the rules of the room have come.
  #dialog(what, beside) {
    this.#rules(what.room.roomId)
    return bookingDialog(this, what, beside)
  }

  // resume opens the dialog that was open when the page was left, with what was typed.
  #resume() {
    const kept = this.resumed ? null : draft.read()
    this.resumed = true
    const room = this.#rooms.get(kept?.room)
    const {start, end} = this.#window()
    if (!room || kept.reader !== this.user || kept.end <= start || kept.start >= end) return
    const booking = kept.booking && (this.#spans.get(kept.room) ?? []).find(s => s.id === kept.booking)
    if (kept.booking && !booking) return
    this.#dialog({room, start: booking ? booking.start : kept.start, end: booking ? booking.end : kept.end, booking, kept})
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
    } else this.#send(this.#sent, booking, {room, start, end})
  }

  // send changes a booking. The old place stays as an outline, and the new one as it was dragged, until the answer has come and is shown.
  async #send(sent, booking, slot) {
    this.#showGhost()
    const answer = await this.change(booking, slot)
    if (answer.ok) await new Promise(done => this.addEventListener('board:refreshed', done, {once: true}))
    if (this.#sent === sent) this.#sent = null
    this.#showGhost()
    if (!answer.ok) this.#dialog({...slot, booking, answer})
  }

  // ---- keyboard

  #key(event) {
    if (event.target !== this.scroller) return
    const {key, altKey, ctrlKey, shiftKey, metaKey} = event
    if (metaKey) return
    const arrows = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}
    const dragging = this.#drag.phase === 'dragging'
    if (arrows[key]) {
      const [right, down] = arrows[key]
      const [steps, rows] = this.columns ? [down, right] : [right, down]
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
    else if (event.key === 'f') (this.columns ? this.tools : this.#rows.get(this.#at().lane))?.querySelector('.star')?.click()
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
    let at = this.#beside(before.at, before.lane, lane) + steps * this.stepOf(lane)
    const {parts} = this.#lanes[lane]
    const part = parts.find(p => p.start <= at && at < p.end)
    if (!part) at = steps > 0 ? parts.find(p => p.start > at)?.start ?? parts.at(-1).end - this.stepOf(lane) : (parts.findLast(p => p.end <= at)?.end ?? parts[0].start + this.stepOf(lane)) - this.stepOf(lane)
    this.#moveCursor(lane, at)
  }

  #moveCursor(lane, at) {
    this.#cursor = {lane, at}
    this.#rules(this.#lanes[lane].room.roomId)
    if (!this.#rows.has(lane)) this.scroller.scrollTop = lane * rowHeight
    this.#draw()
    this.#showCursor()
    this.cursor.scrollIntoView({block: 'nearest', inline: 'nearest'})
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
    if (!s || s.kind !== 'booking' || s.locked || s.status === 'ENDED' || s.status === 'IN_USE') return
    const now = this.#drag.ghost?.lane ?? this.#at().lane
    const lane = resize ? now : Math.max(0, Math.min(this.#lanes.length - 1, now + rows))
    this.#rules(this.#lanes[lane].room.roomId)
    this.#step({type: 'shift', booking: {...s, lane: s.lane ?? now}, steps, lane, edge: resize ? 'end' : undefined})
    const {ghost} = this.#drag
    if (!ghost) return
    this.#cursor = {lane: ghost.lane, at: ghost.start}
    this.#draw()
    this.#showCursor()
    this.ghost.scrollIntoView({block: 'nearest', inline: 'nearest'})
    const note = this.#notes(ghost, this.#drag.kind, this.#drag.from)
    this.speak(this.#spoken(ghost) + (note && ', ' + note))
  }

  // ---- commands

  async book({room, start, end, user, key}) {
    const answer = await request(this.base, 'POST', '/bookings', {key, body: {roomId: room.roomId, useStartDtm: time.iso(start), useEndDtm: time.iso(end), bookingUserId: user}})
    if (answer.ok) {
      this.#clear()
      this.#refresh(room.roomId, answer.position)
      const {bookingId} = answer.body
      this.notify(this.text('booked', {room: room.name, time: time.clock(start, this.locale, room.zone)}), () => this.#drop(bookingId, room.roomId, answer.etag))
    } else if (answer.status === 409) await this.#beaten(answer, room)
    return answer
  }

  // beaten finds out who was faster and when, and shows their booking.
  async #beaten(answer, room) {
    const id = answer.body?.conflictsWith?.[0]?.bookingId
    const {ok, body, position} = id ? await request(this.base, 'GET', `/bookings/${id}/history`) : {}
    this.#refresh(room.roomId, position)
    if (!ok) return
    const events = body._embedded.events
    const last = events.findLast(e => e.data?.userId)
    const span = last && {bookingUserId: last.data.userId, bookingUserName: last.onBehalfOf ? last.onBehalfOfName : last.actorName}
    answer.by = {user: span && this.#who(span), since: Date.parse(events.findLast(e => e.data?.slot)?.time)}
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
    if (Date.parse(old.useStartDtm) !== booking.start || Date.parse(old.useEndDtm) !== booking.end) { // it is not what the reader has seen
      this.#refresh(old.roomId, before.position)
      return {status: 412, ok: false, body: {type: 'precondition-failed'}}
    }
    const body = {roomId: room.roomId, useStartDtm: time.iso(start), useEndDtm: time.iso(end)}
    if (user) body.bookingUserId = user
    const send = (body, etag) => request(this.base, 'PATCH', '/bookings/' + booking.id, {etag, body})
    const answer = await send(body, before.etag)
    const both = position => [room.roomId, old.roomId].forEach(id => this.#refresh(id, position))
    both(answer.position)
    if (answer.ok) {
      this.notify(this.text('changed', {room: room.name, time: time.clock(start, this.locale, room.zone)}), async () => {
        const back = await send({roomId: old.roomId, useStartDtm: old.useStartDtm, useEndDtm: old.useEndDtm, bookingUserId: old.bookingUserId}, answer.etag)
        if (back.ok) both(back.position)
        this.notify(back.ok ? this.text('undone') : this.explain(back).sentence)
      })
    } else if (answer.status === 409) await this.#beaten(answer, room)
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
  explain({status, body, by}, zone = this.zone) {
    if (!status) return {sentence: this.text('offline')}
    if (status === 401) return {sentence: this.text('signed-out'), link: `${this.base}/signin?back=${encodeURIComponent(location.pathname.slice(this.base.length) + location.search)}`, label: this.text('sign-in')}
    const kind = body?.type?.split('/').at(-1)
    const link = body?.type?.includes('/') ? new URL(body.type, location.href).href : undefined
    const conflict = body?.conflictsWith?.[0]
    if (kind === 'slot-taken' && conflict) return {link, sentence: this.taken(Date.parse(conflict.useStartDtm), Date.parse(conflict.useEndDtm), zone, by)}
    const rules = (body?.broken ?? []).map(b => this.rule(b)).filter(Boolean)
    if (rules.length) return {link, sentence: rules.join(' ')}
    const known = this.#texts['board.problem-' + kind]
    const sentence = known ?? (this.locale.startsWith('en') && body?.detail || this.text('failed')) // a detail is in English
    return {link, sentence, requestId: status >= 500 ? body?.requestId : undefined}
  }

  // taken says by whom a time is taken and, if that is known, since when.
  taken(start, end, zone, {user, since} = {}) {
    const clock = instant => time.clock(instant, this.locale, zone)
    const words = this.text(user ? 'taken-by' : 'taken', {who: user, from: clock(start), to: clock(end)})
    return since ? `${words} ${this.ago(since)}` : words
  }

  // ago is how long something has been so, in words.
  ago(since) {
    const seconds = Math.max(1, Math.round((Date.now() - since) / 1000))
    return seconds < 60 ? this.text('since-seconds', {n: seconds}) : this.text('since', {length: this.duration(Math.round(seconds / 60))})
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
