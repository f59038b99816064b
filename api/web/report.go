package web

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"roombook/domain"
	"roombook/projections"
)

func (p *Pages) reportRoutes() []Route {
	return []Route{
		// Booked time beside used time.
		{"GET", "/report", false, p.report},
		// The same as a table for other programs.
		{"GET", "/report.csv", false, p.reportTable},
	}
}

// reportPage is the data of the use report.
type reportPage struct {
	From, To string // the first and the last day
	Rows     []reportRow
	Rooms    []reportBar
	Total    reportRow
	Cut      bool // whether there is more than was read
}

// reportRow is the use of a room in a week.
type reportRow struct {
	Room              domain.RoomID
	Week              string // 2026-W48, as of ISO 8601
	Bookings, NoShows int
	Booked, Used      int // minutes
}

// reportBar is a room in the plot. Lengths are in percent of the plot's width.
type reportBar struct {
	reportRow
	Y                        int
	BookedLength, UsedLength float64
}

// The limits of a report.
const (
	reportDays  = 28 // unless it is asked for others
	maxReport   = 20_000
	plotRow     = 56 // the height of a room in the plot
	maxReportIn = 366 * 24 * time.Hour
)

func (p *Pages) report(v *view) error {
	data, err := v.readReport()
	if err != nil {
		return err
	}
	return v.show("report", v.T("title.report"), data)
}

// readReport counts bookings by their start, in the time zone of the server.
func (v *view) readReport() (*reportPage, error) {
	if _, err := v.readRooms(); err != nil {
		return nil, err
	}
	q := v.r.URL.Query()
	last := v.dayOf(q.Get("to"), v.p.zone)
	first := midnight(last.Start, -reportDays+1)
	if from := q.Get("from"); from != "" {
		first = v.dayOf(from, v.p.zone).Start
	}
	if first.After(last.Start) || last.End.Sub(first) > maxReportIn {
		first = midnight(last.Start, -reportDays+1)
	}
	data := &reportPage{From: first.Format(formDay), To: last.Start.Format(formDay)}
	type key struct {
		room domain.RoomID
		week string
	}
	rows := make(map[key]*reportRow)
	query := projections.Query{From: first, To: last.End, Size: projections.MaxSize, MinPosition: v.seen()}
	for read := 0; ; {
		page, err := v.p.lists.RoomUseLists(v.r.Context(), query)
		if err != nil {
			return nil, err
		}
		for _, u := range page.Items {
			if u.Start.Before(first) {
				continue
			}
			year, week := u.Start.In(v.p.zone).ISOWeek()
			k := key{u.Room, fmt.Sprintf("%d-W%02d", year, week)}
			if rows[k] == nil {
				rows[k] = &reportRow{Room: k.room, Week: k.week}
			}
			rows[k].count(u, v.Now)
		}
		if read += len(page.Items); page.Next == "" {
			break
		}
		if query.Cursor = page.Next; read >= maxReport {
			data.Cut = true
			break
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(rows), func(a, b key) int {
		return cmp.Or(cmp.Compare(v.RoomName(a.room), v.RoomName(b.room)), cmp.Compare(a.room, b.room), cmp.Compare(a.week, b.week))
	}) {
		row := *rows[k]
		data.Rows = append(data.Rows, row)
		data.Total.add(row)
		if n := len(data.Rooms); n == 0 || data.Rooms[n-1].Room != row.Room {
			data.Rooms = append(data.Rooms, reportBar{reportRow: reportRow{Room: row.Room}, Y: n * plotRow})
		}
		data.Rooms[len(data.Rooms)-1].add(row)
	}
	longest := 1
	for _, r := range data.Rooms {
		longest = max(longest, r.Booked, r.Used)
	}
	length := func(minutes int) float64 { return math.Round(1000*float64(minutes)/float64(longest)) / 10 }
	for i := range data.Rooms {
		r := &data.Rooms[i]
		r.BookedLength, r.UsedLength = length(r.Booked), length(r.Used)
	}
	return data, nil
}

// count counts a booking. One that is over and was never used is a no-show.
func (r *reportRow) count(u projections.RoomUseList, now time.Time) {
	r.Bookings++
	r.Booked += u.BookedMinutes
	r.Used += u.UsedMinutes
	if u.RealUse == "" && !u.End.After(now) {
		r.NoShows++
	}
}

func (r *reportRow) add(o reportRow) {
	r.Bookings, r.NoShows, r.Booked, r.Used = r.Bookings+o.Bookings, r.NoShows+o.NoShows, r.Booked+o.Booked, r.Used+o.Used
}

// Percent is how much of the booked time was used, in percent.
func (r reportRow) Percent() int {
	if r.Booked == 0 {
		return 0
	}
	return (r.Used*100 + r.Booked/2) / r.Booked
}

// Height is the height of the plot.
func (d *reportPage) Height() int { return len(d.Rooms) * plotRow }

// Hours is minutes as hours with a decimal.
func (v *view) Hours(minutes int) string { return strconv.FormatFloat(float64(minutes)/60, 'f', 1, 64) }

func (p *Pages) reportTable(v *view) error {
	data, err := v.readReport()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	rows := [][]string{{"roomId", "name", "week", "bookings", "noShows", "bookedMinutes", "usedMinutes"}}
	for _, r := range data.Rows {
		rows = append(rows, []string{string(r.Room), plainCell(v.RoomName(r.Room)), r.Week, strconv.Itoa(r.Bookings), strconv.Itoa(r.NoShows), strconv.Itoa(r.Booked), strconv.Itoa(r.Used)})
	}
	if err := w.WriteAll(rows); err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Disposition", `attachment; filename="roombook-`+data.From+`-`+data.To+`.csv"`)
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept-Encoding, Cookie")
	v.status = http.StatusOK
	return v.send("text/csv; charset=utf-8", b.Bytes())
}

// plainCell is a text in a form that spreadsheets do not take for a formula.
func plainCell(text string) string {
	if text != "" && bytes.IndexByte([]byte("=+-@\t\r"), text[0]) >= 0 {
		return "'" + text
	}
	return text
}
