// Dragging on a board as a state machine: it takes what a pointer or the keyboard does and returns the next state. It knows no document.
//
// A state has a phase: idle, pressed (nothing has moved yet) or dragging, then with the ghost {lane, start, end, blocked}. A state after the
// end of a drag is idle, with what came out of it: done, {kind, lane, start, end, booking}, or tap, the place {lane, at, booking, span}.
//
// The world says how a board is: snap(instant, lane), step(lane) in milliseconds, carry(instant, from, to), the instant of one lane that is
// beside that of another, and free(lane, instant, except), which returns the free time {start, end} around an instant, or null.

export const threshold = 6 // pixels that a mouse moves before a press is a drag
export const holdTime = 300 // milliseconds after which a touch is one

export const idle = Object.freeze({phase: 'idle'})

export function reduce(state, event, world) {
  switch (event.type) {
    case 'press':
      return state.phase === 'idle' ? {phase: 'pressed', from: event, touch: event.touch} : idle
    case 'hold':
      return state.phase === 'pressed' && state.touch ? drag({...state, lifted: true}, state.from, world) : state
    case 'move': {
      if (state.phase === 'dragging') return drag(state, event, world)
      if (state.phase !== 'pressed') return state
      const far = Math.hypot(event.x - state.from.x, event.y - state.from.y) >= threshold
      if (!far) return state
      return state.touch ? idle : drag(state, event, world) // a touch that moves at once scrolls
    }
    case 'release':
      if (state.phase === 'pressed') return {phase: 'idle', tap: state.from}
      if (state.phase !== 'dragging' || state.ghost.blocked) return idle
      return finish(state)
    case 'shift':
      return shift(state, event, world)
    case 'cancel':
      return idle
  }
  return state
}

// drag moves the ghost to where the pointer is.
function drag(state, to, world) {
  const {from} = state
  const ghost = from.span ? null : from.booking ? change(from, to, world) : create(from, to, world)
  return ghost ? {...state, phase: 'dragging', kind: kindOf(from), ghost} : idle
}

const kindOf = from => from.booking ? from.edge ? 'resize' : 'move' : 'create'

function create(from, to, world) {
  const free = world.free(from.lane, from.at)
  if (!free) return null
  const step = world.step(from.lane)
  const [a, b] = [from.at, to.at].map(at => world.snap(at, from.lane))
  let [start, end] = a <= b ? [a, b] : [b, a]
  if (end - start < step) end = start + step
  start = Math.max(start, free.start)
  end = Math.min(end, free.end)
  return {lane: from.lane, start, end, blocked: end <= start}
}

function change(from, to, world) {
  const {booking, edge} = from
  if (edge) {
    const free = world.free(booking.lane, booking.start, booking.id) ?? booking
    const at = world.snap(to.at, booking.lane)
    const step = world.step(booking.lane)
    const ghost = {lane: booking.lane, start: booking.start, end: booking.end, blocked: false}
    if (edge === 'start') ghost.start = Math.max(free.start, Math.min(at, booking.end - step))
    else ghost.end = Math.min(free.end, Math.max(at, booking.start + step))
    return ghost
  }
  return place(booking, to.lane, world.snap(booking.start + to.at - from.at, to.lane), to.at, world)
}

// place puts a booking at a start, or as near to it as the free time around an instant allows.
function place(booking, lane, start, around, world) {
  const duration = booking.end - booking.start
  const free = world.free(lane, around, booking.id)
  if (!free || free.end - free.start < duration) return {lane, start, end: start + duration, blocked: true}
  start = Math.max(free.start, Math.min(start, free.end - duration))
  return {lane, start, end: start + duration, blocked: false}
}

// shift moves a booking by the keyboard: by steps, by lanes, or with one edge only. The first one begins the drag, release ends it.
function shift(state, event, world) {
  const booking = event.booking ?? state.from?.booking
  if (!booking) return state
  const from = state.phase === 'dragging' ? state.from : {lane: booking.lane, at: booking.start, booking, edge: event.edge}
  if (state.phase === 'dragging' && from.edge !== event.edge) return state
  const now = state.phase === 'dragging' ? state.ghost : booking
  const lane = event.lane ?? now.lane
  const by = event.steps * world.step(lane)
  let ghost
  if (from.edge) ghost = change(from, {lane, at: now[from.edge] + by}, world)
  else {
    const start = world.snap(world.carry(now.start, now.lane, lane) + by, lane)
    const clear = world.free(lane, start, booking.id)
    const end = start + booking.end - booking.start
    ghost = {lane, start, end, blocked: !clear || clear.end < end}
  }
  return {phase: 'dragging', kind: kindOf(from), from, ghost, keyboard: true}
}

function finish(state) {
  const {lane, start, end} = state.ghost
  const {booking} = state.from
  if (booking && booking.lane === lane && booking.start === start && booking.end === end) return idle
  return {phase: 'idle', done: {kind: state.kind, lane, start, end, booking}}
}
