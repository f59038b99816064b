package web_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// usage is what a page holds after a collection of garbage.
type usage struct {
	Heap                     float64 // bytes
	Documents, Nodes, Listen int     // documents, nodes, and listeners of events
}

// exceeds reports whether a page holds more than it did before, by more than the answer to one request, which may not be collected yet.
func (u usage) exceeds(before usage) bool {
	return u.Documents > before.Documents+2 || u.Nodes > 2*before.Nodes || u.Listen > 2*before.Listen || u.Heap > before.Heap+1<<20
}

// usage collects garbage, twice since what is only reachable from finalized nodes is freed by the second, and returns what is left.
func (b *tab) usage() (u usage) {
	b.t.Helper()
	b.run(send(performance.Enable, performance.EnableParams{}), send(heapprofiler.CollectGarbage, cdp.Empty{}), send(heapprofiler.CollectGarbage, cdp.Empty{}),
		chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			heap, err := cdp.Call(ctx, target, runtime.GetHeapUsage, cdp.Empty{})
			if err != nil {
				return err
			}
			u.Heap = heap.UsedSize
			all, err := cdp.Call(ctx, target, performance.GetMetrics, cdp.Empty{})
			for _, m := range all.Metrics {
				switch m.Name {
				case "Documents":
					u.Documents = int(m.Value)
				case "Nodes":
					u.Nodes = int(m.Value)
				case "JSEventListeners":
					u.Listen = int(m.Value)
				}
			}
			return err
		}))
	return u
}

// fast is a script that makes the clock of a page's displays tick 100 times as often, each time ten seconds later, so that every 90 ticks are a
// quarter of an hour.
const fast = `{
	const now = Date.now, wait = setInterval
	let ticks = 0
	Date.now = () => now() + 10_000 * ticks
	window.setInterval = (f, ms) => wait(() => { ticks++; f() }, ms / 100)
}`

// soak has a display take over n pages, each of which shows something new.
func (b *tab) soak(n int) {
	b.t.Helper()
	b.eval(`(() => {
		if (window.update) return
		const send = XMLHttpRequest.prototype.send, wait = setTimeout
		window.setTimeout = (run, ms, ...values) => wait(run, ms === 1000 ? 0 : ms, ...values) // between two questions
		let answered
		XMLHttpRequest.prototype.send = function () {
			for (const type of ['load', 'error', 'timeout']) this.addEventListener(type, () => answered?.(this.status)) // one that is given up for the next does not count
			send.call(this)
		}
		const heading = () => document.querySelector('main h1')
		window.update = async n => {
			while (n-- > 0) {
				const status = new Promise(f => { answered = f })
				heading().textContent = 'old ' + n
				document.dispatchEvent(new CustomEvent('roombook:resync'))
				if (await status !== 200) throw new Error('the server does not answer')
				if (heading().textContent === 'old ' + n) throw new Error('the display has not changed')
			}
		}
	})()`)
	for ; n > 0; n -= 10 {
		b.eval(fmt.Sprintf("update(%d)", min(n, 10)))
	}
}

// BenchmarkDisplay measures what a display holds after b.N pages that it took over, beyond what it held after the first hundred, and fails if
// that is a leak. A display takes over a page every half a minute, so that -benchtime 250000x is three months;
// its clock runs accordingly.
func BenchmarkDisplay(b *testing.B) {
	h := open(b, "Asia/Seoul")
	h.room(b, "door", "")
	browser := chromium(b)
	for _, path := range []string{"/rooms/door/door", "/lobby"} {
		b.Run(strings.TrimPrefix(path[strings.LastIndex(path, "/"):], "/"), func(b *testing.B) {
			tab := newTab(b, browser, h, "en", send(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: fast}))
			tab.run(chromedp.Navigate(h.url + path))
			tab.live()
			tab.soak(100)
			before := tab.usage()
			b.ResetTimer()
			tab.soak(b.N)
			b.StopTimer()
			after := tab.usage()
			b.ReportMetric(after.Heap/1024, "heap-KiB")
			b.ReportMetric((after.Heap-before.Heap)/1024, "more-heap-KiB")
			b.ReportMetric(float64(after.Nodes), "nodes")
			if after.exceeds(before) {
				b.Errorf("%+v after the first pages, %+v after %d more", before, after, b.N)
			}
		})
	}
}
