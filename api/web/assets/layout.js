// Where things are on a board: instants along a lane, rows in a window, and what is free.

// A lane is a row: a room and the parts of time that it shows, {start, end} in order. Between them nothing is shown, such as nights.

export function length(lane) {
  return lane.parts.reduce((sum, p) => sum + p.end - p.start, 0)
}

// position returns where an instant is in a lane, from 0 to 1.
export function position(lane, instant) {
  let before = 0
  for (const p of lane.parts) {
    if (instant <= p.start) break
    before += Math.min(instant, p.end) - p.start
  }
  return before / length(lane)
}

// instant is the inverse of position.
export function instant(lane, position) {
  let left = Math.max(0, Math.min(1, position)) * length(lane)
  for (const p of lane.parts) {
    if (left <= p.end - p.start) return p.start + left
    left -= p.end - p.start
  }
  return lane.parts.at(-1).end
}

// shown reports whether any of a time is in a lane.
export function shown(lane, start, end) {
  return lane.parts.some(p => start < p.end && p.start < end)
}

// obstacles returns what a booking cannot overlap, in order and without overlaps: other bookings with the gap that the room wants, and when
// it is closed. The booking that is being changed does not stand in its own way.
export function obstacles(spans, gap, except) {
  const all = []
  for (const s of spans) {
    if (s.kind === 'gap' || s.id && s.id === except) continue
    const wide = s.kind === 'booking' ? gap : 0
    all.push({start: s.start - wide, end: s.end + wide})
  }
  all.sort((a, b) => a.start - b.start)
  const merged = []
  for (const o of all) {
    const last = merged.at(-1)
    if (last && o.start <= last.end) last.end = Math.max(last.end, o.end)
    else merged.push(o)
  }
  return merged
}

// freeAround returns the free time around an instant, within some bounds, or null if there is none.
export function freeAround(obstacles, instant, bounds) {
  let {start, end} = bounds
  if (instant < start || instant >= end) return null
  for (const o of obstacles) {
    if (o.start <= instant && instant < o.end) return null
    if (o.end <= instant) start = Math.max(start, o.end)
    if (o.start > instant) {
      end = Math.min(end, o.start)
      break
    }
  }
  return {start, end}
}

// nextFree returns when the first free time from an instant on begins that lasts long enough, or null if none does within the bounds.
export function nextFree(obstacles, from, duration, bounds) {
  let start = Math.max(from, bounds.start)
  for (const o of obstacles) {
    if (o.end <= start) continue
    if (o.start - start >= duration) break
    start = o.end
  }
  return start + duration <= bounds.end ? start : null
}

// broken returns the first rule that a time breaks, as {rule, limit} with the name that the API has for it, or null. Rules about other bookings
// and about who books are for the server to judge.
export function broken(rules, start, end, now) {
  const minute = 60_000
  const breaks = {
    shortestMinutes: limit => end - start < limit * minute,
    longestMinutes: limit => end - start > limit * minute,
    noticeMinutes: limit => start < now + limit * minute,
    horizonDays: limit => start > now + (limit * 24 + 1) * 60 * minute, // a day of the rule may have 25 hours
  }
  for (const [rule, does] of Object.entries(breaks)) {
    if (rules[rule] && does(rules[rule])) return {rule, limit: rules[rule]}
  }
  return null
}

// visible returns the rows [first, last) to draw. Up to 60 rows all are; of more, those in the window and a few around it.
export function visible(count, top, height, rowHeight) {
  if (count <= 60) return {first: 0, last: count}
  const first = Math.max(0, Math.floor(top / rowHeight) - 8)
  return {first, last: Math.min(count, Math.ceil((top + height) / rowHeight) + 8)}
}
