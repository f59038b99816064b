package web_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp/kb"
)

// BenchmarkBoardOfAHouse measures in a browser what a board of 200 rooms with 12 bookings each takes: until something is painted, from the
// navigation and from the first byte of the answer on; a frame of a drag, with its style and layout; and until a dialog is open, from the
// release of the mouse on. Each of b.N times is a new tab, so that -benchtime 9x is 9 boards; the metrics are medians over them.
func BenchmarkBoardOfAHouse(b *testing.B) {
	const rooms, bookings = 200, 12
	h := open(b, "Asia/Seoul")
	var parts sync.WaitGroup
	for part := range 8 {
		parts.Go(func() {
			for i := part; i < rooms; i += 8 {
				h.room(b, fmt.Sprintf("z%03d", i), "")
				for j := range bookings {
					h.book(b, fmt.Sprintf("z%03d", i), fmt.Sprintf("%02d:00", 8+j), fmt.Sprintf("%02d:45", 8+j), "ann")
				}
			}
		})
	}
	parts.Wait()
	browser := chromium(b)
	measured := make(map[string][]float64)
	for range b.N {
		tab := newTab(b, browser, h, "en")
		tab.board("")
		tab.until(`document.querySelectorAll('.board-row')[0].querySelectorAll('.booking').length === 12`)
		times := eval[struct{ Paint, Answer, Ready float64 }](tab, `({
			Paint: performance.getEntriesByName('first-contentful-paint')[0].startTime,
			Answer: performance.getEntriesByType('navigation')[0].responseStart,
			Ready: performance.getEntriesByType('resource').filter(r => r.name.includes('/occupancy')).at(-1).responseEnd,
		})`)
		tab.eval(`(() => {
			window.frames = []
			const ask = window.requestAnimationFrame
			window.requestAnimationFrame = f => ask(at => {
				const began = performance.now()
				f(at)
				document.body.offsetHeight
				frames.push(performance.now() - began)
			})
			addEventListener('pointerup', () => { window.released = performance.now() }, true)
			const show = HTMLDialogElement.prototype.showModal
			HTMLDialogElement.prototype.showModal = function () {
				show.call(this)
				window.opened = performance.now()
			}
		})()`)
		x, y := tab.point("z000", "08:20")
		x2, y2 := tab.point("z006", "18:20")
		tab.mouse(input.DispatchMouseEventTypeMousePressed, x, y)
		for i := 1; i <= 60; i++ {
			part := float64(i) / 60
			tab.mouse(input.DispatchMouseEventTypeMouseMoved, x+(x2-x)*part, y+(y2-y)*part)
		}
		frames := eval[[]float64](tab, `frames.sort((a, b) => a - b)`)
		tab.key(kb.Escape)
		tab.mouse(input.DispatchMouseEventTypeMouseReleased, x2, y2)
		if len(frames) == 0 {
			b.Fatal("the drag has no frames")
		}
		x, y = tab.point("z001", "08:50")
		tab.drag(x, y, x+12, y)
		tab.until(`document.querySelector('.board-dialog[open]')`)
		for name, ms := range map[string]float64{
			"paint-ms": times.Paint, "paint-after-answer-ms": times.Paint - times.Answer, "data-ms": times.Ready,
			"frame-ms": frames[len(frames)/2], "longest-frame-ms": frames[len(frames)-1], "dialog-ms": eval[float64](tab, `opened - released`),
		} {
			measured[name] = append(measured[name], ms)
		}
		tab.close()
	}
	for name, all := range measured {
		slices.Sort(all)
		b.ReportMetric(all[len(all)/2], name)
		if name == "longest-frame-ms" {
			b.ReportMetric(all[len(all)-1], "longest-of-all-ms")
		}
	}
}
