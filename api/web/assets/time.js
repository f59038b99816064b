// Times of a board. An instant is a number of milliseconds since 1970, a date is YYYY-MM-DD, and a wall-clock time is a number of minutes
// since midnight. What a date is depends on a zone; days have 23, 24 or 25 hours.

export const minute = 60_000

const formats = new Map()

function format(locale, zone, options) {
  const key = locale + zone + JSON.stringify(options)
  let f = formats.get(key)
  if (!f) {
    f = new Intl.DateTimeFormat(locale, {timeZone: zone, ...options})
    formats.set(key, f)
  }
  return f
}

const fields = {year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23'}

const quarter = 15 * minute
const offsets = new Map() // by zone, then by quarter of an hour: clocks are changed between those
const maxOffsets = 10_000 // of a zone, since a display runs for months

// offset returns how far a zone is ahead of UTC at an instant, in milliseconds.
export function offset(instant, zone) {
  const at = Math.floor(instant / quarter) * quarter
  let of = offsets.get(zone)
  if (!of) offsets.set(zone, of = new Map())
  if (!of.has(at)) {
    if (of.size >= maxOffsets) of.clear()
    const p = {}
    for (const {type, value} of format('en-US', zone, fields).formatToParts(at)) p[type] = Number(value)
    of.set(at, Date.UTC(p.year, p.month - 1, p.day, p.hour, p.minute, p.second) - at)
  }
  return of.get(at)
}

// parts returns the wall clock at an instant, as if it were UTC.
function parts(instant, zone) {
  return instant + offset(instant, zone)
}

export const readersZone = Intl.DateTimeFormat().resolvedOptions().timeZone

export function dateOf(instant, zone) {
  return new Date(parts(instant, zone)).toISOString().slice(0, 10)
}

// wallClock returns the wall clock at an instant, in minutes since midnight.
export function wallClock(instant, zone) {
  return Math.floor(parts(instant, zone) % 86_400_000 / minute)
}

// at returns when the wall clock of a date shows some minutes since midnight. Of two such instants it is the first, and where there is none
// because the clock is put forward, the instant at which that happens.
export function at(date, minutes, zone) {
  const wall = Date.parse(date + 'T00:00:00Z') + minutes * minute
  const before = wall - offset(wall - 86_400_000, zone)
  const after = wall - offset(wall + 86_400_000, zone)
  for (const instant of [Math.min(before, after), Math.max(before, after)]) {
    if (parts(instant, zone) === wall) return instant
  }
  let [low, high] = [Math.min(before, after) - minute, Math.max(before, after)] // the clock is put forward in between
  while (high - low > 1000) {
    const middle = Math.floor((low + high) / 2000) * 1000
    if (parts(middle, zone) < wall) low = middle
    else high = middle
  }
  return high
}

// day returns when a date begins, and how many minutes it has.
export function day(date, zone) {
  const start = at(date, 0, zone)
  return {date, start, minutes: Math.round((at(addDays(date, 1), 0, zone) - start) / minute)}
}

export function addDays(date, days) {
  return new Date(Date.parse(date + 'T00:00:00Z') + days * 86_400_000).toISOString().slice(0, 10)
}

// weekOf returns the seven dates of a date's week, from Monday or, where the locale has it so, from Sunday.
export function weekOf(date, locale) {
  const weekday = new Date(date + 'T00:00:00Z').getUTCDay()
  const first = locale.startsWith('ko') ? 0 : 1
  const monday = addDays(date, -((weekday - first + 7) % 7))
  return Array.from({length: 7}, (_, i) => addDays(monday, i))
}

// snap returns the instant nearest to one at which the wall clock is a multiple of the step, in minutes since midnight.
export function snap(instant, step, zone) {
  const wall = parts(instant, zone) % 86_400_000 / minute
  return Math.round(instant / minute) * minute + (Math.round(Math.round(wall) / step) * step - Math.round(wall)) * minute
}

function twelveHours(locale) {
  return (document.documentElement.dataset.hours ?? (locale.startsWith('ko') ? '12' : '24')) === '12'
}

// clock is the wall clock in words, by the clock that the reader chose or else by that of the language: 09:30, 9:30 AM, and 오전 9:30, which
// browsers write with AM.
export function clock(instant, locale, zone) {
  const korean = locale.startsWith('ko')
  const wall = wallClock(instant, zone)
  const minutes = String(wall % 60).padStart(2, '0')
  if (!twelveHours(locale)) return `${String(Math.floor(wall / 60)).padStart(2, '0')}:${minutes}`
  const twelve = `${(Math.floor(wall / 60) + 11) % 12 + 1}:${minutes}`
  return korean ? `${wall < 720 ? '오전' : '오후'} ${twelve}` : `${twelve} ${wall < 720 ? 'AM' : 'PM'}`
}

// hour is an hour by the same clock, in few words: 09, 9 AM, 오전 9시.
export function hour(instant, locale, zone) {
  const hourCycle = twelveHours(locale) ? 'h12' : 'h23'
  const words = format(locale, zone, {hour: 'numeric', hourCycle}).format(instant)
  return words.replace(/AM|PM/, half => locale.startsWith('ko') ? {AM: '오전', PM: '오후'}[half] : half)
}

const dayNames = new Map()

export function dayName(instant, locale, zone) {
  const key = locale + dateOf(instant, zone)
  if (!dayNames.has(key)) dayNames.set(key, format(locale, zone, {weekday: 'short', month: 'short', day: 'numeric'}).format(instant))
  return dayNames.get(key)
}

export function iso(instant) { return new Date(instant).toISOString() }
