package projections_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"roombook/domain"
	"roombook/eventstore"
	"roombook/projections"
	"roombook/projections/sqlite"
	"roombook/projections/storetest"
)

var (
	timesBookings = flag.Int("times.bookings", 20_000, "bookings that BenchmarkEveryQuery asks for")
	timesStore    = flag.String("times.store", "", "file of BenchmarkEveryQuery's lists, which is made if it is not there; none is a temporary one")
	timesOver     = flag.Duration("times.over", 20*time.Millisecond, "BenchmarkEveryQuery tells of each query that takes longer")
)

// lived returns the events of bookings over three years, with everything that happened to them in the first nine tenths of that time. A
// twentieth are for room 0 and a fiftieth by user-0, the others for 100 rooms and by 5,000 users. They are booked up to 30 days ahead.
func lived(random *rand.Rand, first, n, of int) []eventstore.Recorded {
	const years = 3 * 365 * 24 * time.Hour
	began := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	now := began.Add(years * 9 / 10)
	var events []eventstore.Recorded
	for i := first; i < first+n; i++ {
		made := began.Add(years / time.Duration(of) * time.Duration(i))
		start := made.Add(time.Duration(random.IntN(30*24)) * time.Hour).Truncate(time.Hour)
		slot := domain.Slot{Start: start, End: start.Add(time.Duration(1+random.IntN(4)) * 30 * time.Minute)}
		room, user := domain.RoomID(fmt.Sprint(1+random.IntN(100))), domain.UserID(fmt.Sprint("user-", 1+random.IntN(5000)))
		if random.IntN(20) == 0 {
			room = "0"
		}
		if random.IntN(50) == 0 {
			user = "user-0"
		}
		id := uuid.NewSHA1(uuid.Nil, fmt.Append(nil, i))
		booking := domain.BookingID(id.String())
		life := []domain.Event{
			domain.BookingCreated{BookingID: booking, ReservationID: "r", RoomID: room, UserID: user, Slot: slot, At: made},
			domain.ConfirmRequested{BookingID: booking, RoomID: room, UserID: user, At: made},
		}
		used := domain.RealUseID("use-" + id.String())
		switch fate := random.IntN(100); {
		case fate < 8:
			life = append(life, domain.BookingCancelled{BookingID: booking, UserID: user, Reason: domain.CancelledByUser, At: made})
		case fate < 10:
			life = append(life, domain.ConfirmDenied{BookingID: booking, UserID: user, ConfirmUserID: "boss", Reason: "no", At: made},
				domain.BookingCancelled{BookingID: booking, UserID: user, Reason: domain.CancelledByDenial, At: made})
		default:
			if fate < 80 {
				life = append(life, domain.ConfirmCompleted{BookingID: booking, UserID: user, ConfirmUserID: "boss", At: made})
			}
			if slot.Start.Before(now) {
				life = append(life, domain.BookingCheckedIn{BookingID: booking, RealUseID: used, UserID: user, StartedAt: start},
					domain.UseStarted{RealUseID: used, BookingID: booking, RoomID: room, UserID: user, StartedAt: start})
			}
			if slot.End.Before(now) {
				life = append(life, domain.UseEnded{RealUseID: used, BookingID: booking, EndedAt: slot.End},
					domain.BookingCancelled{BookingID: booking, UserID: user, Reason: domain.CancelledByUseEnd, At: slot.End})
			}
		}
		for j, e := range life {
			events = append(events, eventstore.Recorded{
				ID: uuid.NewSHA1(id, []byte{byte(j)}), Stream: booking.Stream(), Revision: domain.Revision(j),
				Position: eventstore.Position(10*i + j + 1), Type: e.EventType(), Event: e, Metadata: eventstore.Metadata{OccurredAt: made},
			})
		}
	}
	return events
}

// livedStore returns a store with the lists of such bookings.
func livedStore(b *testing.B, n int) *sqlite.Store {
	file := cmp.Or(*timesStore, filepath.Join(b.TempDir(), "views.db"))
	store, err := sqlite.Open(file)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	for _, p := range projections.All() {
		state, err := store.State(b.Context(), p.Name)
		if err != nil {
			b.Fatal(err)
		}
		if g, ok := state.Generation(state.Active); ok && g.Version == p.Version {
			continue
		}
		g, err := store.Begin(b.Context(), p.Name, p.Version, p.Schema)
		if err != nil {
			b.Fatal(err)
		}
		bookings := n
		if p.Name == projections.NotificationName {
			bookings /= 5 // about five for each booking
		}
		began := time.Now()
		random := rand.New(rand.NewPCG(1, 2))
		const some = 1000
		for first := 0; first < bookings; first += some {
			write(b, store, p, g.Ref, lived(random, first, some, bookings))
		}
		if err := store.Activate(b.Context(), p.Name, 0, g.Number); err != nil {
			b.Fatal(err)
		}
		b.Logf("%s: %.0f bookings folded a second", p.Name, float64(bookings)/time.Since(began).Seconds())
	}
	return store
}

// choice is a value of a filter, or none if its name is empty.
type choice struct {
	name string
	set  func(*projections.Query)
}

// BenchmarkEveryQuery prints how long every kind of query takes in each list, and for which of its sorts, directions and pages longest.
func BenchmarkEveryQuery(b *testing.B) {
	store := livedStore(b, *timesBookings)
	queries := projections.NewQueries(store, projections.QueryOptions{Budget: time.Minute})
	asks := map[string]func(context.Context, projections.Query) (next string, err error){
		projections.BookingListName: func(ctx context.Context, q projections.Query) (string, error) {
			page, err := queries.BookingLists(ctx, q)
			return page.Next, err
		},
		projections.RoomUseListName: func(ctx context.Context, q projections.Query) (string, error) {
			page, err := queries.RoomUseLists(ctx, q)
			return page.Next, err
		},
		projections.NotificationName: func(ctx context.Context, q projections.Query) (string, error) {
			page, err := queries.Notifications(ctx, q)
			return page.Next, err
		},
	}
	day := func(year, month, day int) time.Time {
		return time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	}
	none := choice{"", func(*projections.Query) {}}
	statuses := func(of ...string) choice {
		return choice{"status=" + strings.Join(of, ","), func(q *projections.Query) { q.Statuses = of }}
	}
	window := func(name string, from, to time.Time) choice {
		return choice{name, func(q *projections.Query) { q.From, q.To = from, to }}
	}
	filters := [][]choice{
		{none, {"room", func(q *projections.Query) { q.Room = "7" }}, {"large room", func(q *projections.Query) { q.Room = "0" }},
			{"booking", func(q *projections.Query) {
				q.Booking = domain.BookingID(uuid.NewSHA1(uuid.Nil, fmt.Append(nil, 7)).String())
			}}},
		{none, {"user", func(q *projections.Query) { q.User = "user-7" }}, {"large user", func(q *projections.Query) { q.User = "user-0" }}},
		{none, window("a day", day(2025, 6, 2), day(2025, 6, 3)), window("a month", day(2025, 6, 1), day(2025, 7, 1)),
			window("from early", day(2024, 3, 1), time.Time{}), window("from late", day(2026, 9, 1), time.Time{}),
			window("to early", time.Time{}, day(2024, 3, 1)), window("to late", time.Time{}, day(2026, 9, 1))},
		nil, // statuses
	}
	b.ResetTimer()
	for range b.N {
		for _, p := range storetest.Queried() {
			filters[3] = []choice{none, statuses(p.Statuses[0]), statuses(p.Statuses[1], p.Statuses[2]), statuses(projections.StatusAll)}
			if p.Name == projections.RoomUseListName {
				filters[3] = append(filters[3], choice{"used", func(q *projections.Query) { q.Used = true }})
			}
			if p.Name != projections.NotificationName {
				filters[3] = append(filters[3], statuses("ENDED"), statuses("CANCELLED"))
			}
			ask := asks[p.Name]
			deep := map[string]string{}
			for _, sort := range p.Sorts {
				for _, descending := range []bool{false, true} {
					// In the middle of the list in every order.
					q := projections.Query{Sort: sort, Descending: descending, Size: 1, From: day(2025, 6, 1), To: day(2025, 6, 8), Room: "50"}
					next, err := ask(b.Context(), q)
					if err != nil {
						b.Fatal(err)
					}
					deep[fmt.Sprint(sort, descending)] = next
				}
			}
			table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintf(table, "\n%s\tmedian of its queries\tslowest\twhich is\n", p.Name)
			timesOf(b, p, ask, filters, deep, table)
			table.Flush()
		}
	}
}

func timesOf(b *testing.B, p projections.Projection, ask func(context.Context, projections.Query) (string, error), filters [][]choice, deep map[string]string, out io.Writer) {
	type took struct {
		what string
		time time.Duration
	}
	over, asked := 0, 0
	var all func(q projections.Query, names []string, left [][]choice)
	all = func(q projections.Query, names []string, left [][]choice) {
		if len(left) > 0 {
			for _, c := range left[0] {
				next, with := q, names
				c.set(&next)
				if c.name != "" {
					with = append(slices.Clone(names), c.name)
				}
				all(next, with, left[1:])
			}
			return
		}
		var times []took
		for _, sort := range p.Sorts {
			for _, descending := range []bool{false, true} {
				for _, page := range []string{"first", "deep", "total"} {
					q := q
					q.Sort, q.Descending, q.Total = sort, descending, page == "total"
					if page == "deep" {
						q.Cursor = deep[fmt.Sprint(sort, descending)]
					}
					const runs = 3
					var each []time.Duration
					for range runs {
						began := time.Now()
						if _, err := ask(b.Context(), q); err != nil {
							b.Fatalf("%v by %s, %s: %v", names, sort, page, err)
						}
						each = append(each, time.Since(began))
					}
					slices.Sort(each)
					direction := "asc"
					if descending {
						direction = "desc"
					}
					t := took{fmt.Sprint(sort, ",", direction, " ", page), each[runs/2]}
					times = append(times, t)
					asked++
					if t.time > *timesOver {
						over++
						fmt.Printf("over: %s %s by %s: %v\n", p.Name, strings.Join(names, ", "), t.what, t.time.Round(10*time.Microsecond))
					}
				}
			}
		}
		slices.SortFunc(times, func(a, b took) int { return cmp.Compare(a.time, b.time) })
		slowest := times[len(times)-1]
		fmt.Fprintf(out, "%s\t%v\t%v\t%s\n", strings.Join(names, ", "), times[len(times)/2].time.Round(10*time.Microsecond), slowest.time.Round(10*time.Microsecond), slowest.what)
	}
	all(projections.Query{}, nil, filters)
	fmt.Fprintf(out, "%d of %d over %v\n", over, asked, *timesOver)
}
