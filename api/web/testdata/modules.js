// What must hold of the pure modules. It runs in a browser with time, layout and drag in scope, and says in failed what does not.

const failed = []
const equal = (what, got, want) => {
  if (JSON.stringify(got) !== JSON.stringify(want)) failed.push(`${what}: ${JSON.stringify(got)}, want ${JSON.stringify(want)}`)
}
const instant = text => Date.parse(text)

// Days and the clock.
equal('a day in Seoul', time.day('2027-03-10', 'Asia/Seoul'), {date: '2027-03-10', start: instant('2027-03-09T15:00:00Z'), minutes: 1440})
equal('a short day', time.day('2027-03-14', 'America/New_York').minutes, 23 * 60)
equal('a long day', time.day('2027-11-07', 'America/New_York').minutes, 25 * 60)
equal('a day that begins at 1:00', time.iso(time.at('2018-11-04', 0, 'America/Sao_Paulo')), '2018-11-04T03:00:00.000Z')
equal('a time that there is not', time.iso(time.at('2027-03-14', 150, 'America/New_York')), '2027-03-14T07:00:00.000Z')
equal('a time that there is twice', time.iso(time.at('2027-11-07', 90, 'America/New_York')), '2027-11-07T05:30:00.000Z')
equal('a time that there is twice, west to east', time.iso(time.at('2027-10-31', 150, 'Europe/Berlin')), '2027-10-31T00:30:00.000Z')
equal('an odd offset', time.wallClock(instant('2027-03-10T00:00:00Z'), 'Asia/Kathmandu'), 5 * 60 + 45)
equal('snapping by the wall clock', time.iso(time.snap(instant('2027-03-10T00:05:00Z'), 30, 'Asia/Kathmandu')), '2027-03-10T00:15:00.000Z')
equal('snapping to the nearest', time.iso(time.snap(instant('2027-03-10T01:08:00Z'), 15, 'Asia/Seoul')), '2027-03-10T01:15:00.000Z')
equal('a date over the end of a month', time.addDays('2027-02-28', 1), '2027-03-01')
equal('a week from Monday', time.weekOf('2027-03-14', 'en')[0], '2027-03-08')
equal('a week from Sunday', time.weekOf('2027-03-14', 'ko')[0], '2027-03-14')
equal('a clock in English', time.clock(instant('2027-03-10T00:30:00Z'), 'en', 'Asia/Seoul'), '09:30')
equal('midnight in English', time.clock(instant('2027-03-09T15:00:00Z'), 'en', 'Asia/Seoul'), '00:00')
document.documentElement.dataset.hours = '24'
equal('a clock of 24 hours in Korean', time.clock(instant('2027-03-10T05:05:00Z'), 'ko', 'Asia/Seoul'), '14:05')
document.documentElement.dataset.hours = '12'
equal('a clock of 12 hours in English', time.clock(instant('2027-03-10T05:05:00Z'), 'en', 'Asia/Seoul').replace(/\s/, ' '), '2:05 PM')
equal('an hour of a clock of 12 hours', time.hour(instant('2027-03-10T05:00:00Z'), 'en', 'Asia/Seoul').replace(/\s/, ' '), '2 PM')
delete document.documentElement.dataset.hours
equal('an hour', time.hour(instant('2027-03-10T00:00:00Z'), 'en', 'Asia/Seoul'), '09')
equal('an hour in Korean', time.hour(instant('2027-03-10T05:00:00Z'), 'ko', 'Asia/Seoul'), '오후 2시')
equal('a clock in Korean', time.clock(instant('2027-03-10T00:30:00Z'), 'ko', 'Asia/Seoul'), '오전 9:30')

// Places on a lane of two days without the night between.
const lane = {parts: [{start: 0, end: 100}, {start: 200, end: 300}]}
equal('positions', [-5, 0, 50, 100, 150, 200, 250, 300, 400].map(t => layout.position(lane, t)), [0, 0, 0.25, 0.5, 0.5, 0.5, 0.75, 1, 1])
equal('instants', [-1, 0, 0.25, 0.75, 1, 2].map(p => layout.instant(lane, p)), [0, 0, 50, 250, 300, 300])
equal('what is shown', [[100, 200], [90, 110], [300, 310]].map(([a, b]) => layout.shown(lane, a, b)), [false, true, false])
const spans = [
  {kind: 'booking', id: 'x', start: 40, end: 60}, {kind: 'gap', start: 60, end: 70},
  {kind: 'booking', id: 'y', start: 80, end: 90}, {kind: 'hours', start: 85, end: 100},
]
equal('obstacles', layout.obstacles(spans, 0), [{start: 40, end: 60}, {start: 80, end: 100}])
equal('obstacles with a gap', layout.obstacles(spans, 10), [{start: 30, end: 100}])
equal('a booking is not in its own way', layout.obstacles(spans, 10, 'x'), [{start: 70, end: 100}])
const bounds = {start: 0, end: 120}
const busy = layout.obstacles(spans, 0)
equal('free time', [0, 40, 60, 79, 100, 120].map(t => layout.freeAround(busy, t, bounds)), [{start: 0, end: 40}, null, {start: 60, end: 80}, {start: 60, end: 80}, {start: 100, end: 120}, null])
equal('the next free time', [layout.nextFree(busy, 10, 30, bounds), layout.nextFree(busy, 20, 30, bounds), layout.nextFree(busy, 20, 20, bounds), layout.nextFree(busy, 50, 15, bounds)], [10, null, 20, 60])
const rules = {shortestMinutes: 30, longestMinutes: 60, noticeMinutes: 120, horizonDays: 1}
const brokenBy = (start, minutes) => layout.broken(rules, start * time.minute, (start + minutes) * time.minute, 0)
equal('rules', [[120, 30], [120, 29], [120, 61], [119, 30], [1501, 30]].map(([start, minutes]) => brokenBy(start, minutes)?.rule),
  [undefined, 'shortestMinutes', 'longestMinutes', 'noticeMinutes', 'horizonDays'])
equal('no rules', layout.broken({}, 0, 1, 2), null)
equal('few rows', layout.visible(60, 1000, 500, 50), {first: 0, last: 60})
equal('many rows', layout.visible(200, 1000, 500, 50), {first: 12, last: 38})

// Dragging: two lanes with steps of 10; on lane 0 [100, 200) is taken by x, on lane 1 [0, 50) is closed.
const world = {
  snap: t => Math.round(t / 10) * 10,
  step: () => 10,
  carry: t => t,
  free: (lane, t, except) => layout.freeAround(lane === 0 ? except === 'x' ? [] : [{start: 100, end: 200}] : [{start: 0, end: 50}], t, {start: 0, end: 300}),
}
const play = (...events) => events.reduce((state, e) => drag.reduce(state, e, world), drag.idle)
const press = (lane, at, more) => ({type: 'press', x: at, y: 0, lane, at, ...more})
const move = (lane, at, more) => ({type: 'move', x: at, y: 50 * lane, lane, at, ...more})
const release = {type: 'release'}
const x = {id: 'x', lane: 0, start: 100, end: 200}

equal('a click is a tap', play(press(0, 20), move(0, 23), release).tap.at, 20)
equal('to draw', play(press(0, 22), move(0, 58), release).done, {kind: 'create', lane: 0, start: 20, end: 60, booking: undefined})
equal('to draw backwards', play(press(0, 58), move(0, 22), release).done, {kind: 'create', lane: 0, start: 20, end: 60, booking: undefined})
equal('a drawing stops at its neighbour', play(press(0, 80), move(0, 150)).ghost, {lane: 0, start: 80, end: 100, blocked: false})
equal('nothing is drawn on what is taken', play(press(0, 150), move(0, 180)).phase, 'idle')
equal('a drawing stays in its lane', play(press(0, 20), move(1, 60)).ghost.lane, 0)
equal('to move', play(press(0, 150, {booking: x}), move(0, 100), release).done, {kind: 'move', lane: 0, start: 50, end: 150, booking: x})
equal('to move to another lane', play(press(0, 150, {booking: x}), move(1, 150), release).done, {kind: 'move', lane: 1, start: 100, end: 200, booking: x})
equal('a move stops at what is closed', play(press(0, 150, {booking: x}), move(1, 70)).ghost, {lane: 1, start: 50, end: 150, blocked: false})
equal('no move onto what is closed', play(press(0, 150, {booking: x}), move(1, 40), release), {phase: 'idle'})
equal('a move that ends where it began is none', play(press(0, 150, {booking: x}), move(0, 170), move(0, 151), release), {phase: 'idle'})
equal('the end', play(press(0, 198, {booking: x, edge: 'end'}), move(0, 248), release).done, {kind: 'resize', lane: 0, start: 100, end: 250, booking: x})
equal('the end stays after the start', play(press(0, 198, {booking: x, edge: 'end'}), move(0, 20)).ghost, {lane: 0, start: 100, end: 110, blocked: false})
equal('the start', play(press(0, 102, {booking: x, edge: 'start'}), move(0, 62)).ghost, {lane: 0, start: 60, end: 200, blocked: false})
equal('what is in use does not move', play(press(0, 150, {booking: x, span: x}), move(0, 100)).phase, 'idle')
equal('a touch that moves scrolls', play(press(0, 20, {touch: true}), move(0, 60)), {phase: 'idle'})
equal('a touch that is held drags', play(press(0, 20, {touch: true}), {type: 'hold'}, move(0, 60), release).done.end, 60)
equal('a mouse that is held does not', play(press(0, 20), {type: 'hold'}).phase, 'pressed')
equal('given up', play(press(0, 20), move(0, 60), {type: 'cancel'}, release), {phase: 'idle'})
const shift = (steps, more) => ({type: 'shift', booking: x, steps, ...more})
equal('to move by keys', play(shift(1), shift(1), release).done, {kind: 'move', lane: 0, start: 120, end: 220, booking: x})
equal('to resize by keys', play(shift(-1, {edge: 'end'}), release).done, {kind: 'resize', lane: 0, start: 100, end: 190, booking: x})
equal('by keys onto what is closed', play(shift(-7), {type: 'shift', booking: x, steps: 0, lane: 1}).ghost, {lane: 1, start: 30, end: 130, blocked: true})

// Two lanes that are days, 1000 apart.
const days = {...world, carry: (t, from, to) => t + 1000 * (to - from), free: lane => ({start: 1000 * lane, end: 1000 * lane + 300})}
equal('by keys to another day', drag.reduce(drag.idle, shift(0, {lane: 1}), days).ghost, {lane: 1, start: 1100, end: 1200, blocked: false})
