package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v4"

	"roombook/domain"
)

// roomRow is a room in a file.
type roomRow struct {
	line           int
	Room           domain.RoomID `json:"roomId"`
	domain.Details `json:",inline"`
	Rules          *domain.Rules `json:"rules,omitzero"` // nil if the file has none
}

// roomFault is what is wrong with a line of a file.
type roomFault struct {
	line   int
	detail string
}

// roomForm is the form of a file of rooms.
type roomForm struct {
	read  func(text []byte) (rooms []roomRow, faults []roomFault)
	write func(w io.Writer, rooms []roomRow) error
}

// roomFormOf is the form that the name of a file says.
func roomFormOf(file string) (roomForm, error) {
	switch strings.ToLower(filepath.Ext(file)) {
	case ".csv":
		return roomForm{readRoomTable, writeRoomTable}, nil
	case ".yaml", ".yml":
		return roomForm{readRoomList, writeRoomList}, nil
	}
	return roomForm{}, usagef("the name of the file is %q; it must end in .csv or .yaml", file)
}

// maxRoomFile is the most bytes of a file of rooms, which is read whole.
const maxRoomFile = 64 << 20

// readRooms reads the rooms of a file, and everything that is wrong with them.
func readRooms(file string) ([]roomRow, []roomFault, error) {
	form, err := roomFormOf(file)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, badFile(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRoomFile+1))
	if err != nil {
		return nil, nil, badFile(err)
	}
	if len(text) > maxRoomFile {
		return nil, nil, fmt.Errorf("%s is larger than %d MiB: it is no file of rooms, or one for several imports", file, maxRoomFile>>20)
	}
	rooms, faults := form.read(bytes.TrimPrefix(text, []byte("\ufeff")))
	lines := map[domain.RoomID]int{}
	for _, r := range rooms {
		for _, detail := range r.faults() {
			faults = append(faults, roomFault{r.line, detail})
		}
		if before, twice := lines[r.Room]; twice {
			faults = append(faults, roomFault{r.line, fmt.Sprintf("room %s is in line %d already", r.Room, before)})
		}
		lines[r.Room] = r.line
	}
	slices.SortStableFunc(faults, func(a, b roomFault) int { return a.line - b.line })
	return rooms, faults, nil
}

var (
	anID    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	notAnID = "must be 1 to 64 letters (A-Z, a-z), digits, '.', '_' or '-'"
)

// faults are what is wrong with a room.
func (r *roomRow) faults() []string {
	var faults []string
	if !anID.MatchString(string(r.Room)) {
		faults = append(faults, "roomId "+notAnID)
	}
	for _, user := range r.Approvers {
		if user != "" && !anID.MatchString(string(user)) {
			faults = append(faults, fmt.Sprintf("approver %q %s", user, notAnID))
		}
	}
	_, of := r.Details.Normal()
	if r.Rules != nil {
		of = append(of, r.Rules.Check()...)
	}
	for _, f := range of {
		faults = append(faults, fmt.Sprintf("%s %s", f.Field, f.Detail))
	}
	return faults
}

// column is a column of a table of rooms.
type column struct {
	name string
	rule bool
	// get is the text of a cell, and set reads it.
	get func(*roomRow) string
	set func(*roomRow, string) error
}

func textColumn(name string, of func(*roomRow) *string) column {
	return column{name: name, get: func(r *roomRow) string { return *of(r) }, set: func(r *roomRow, cell string) error {
		*of(r) = cell
		return nil
	}}
}

func numberColumn(name string, of func(*roomRow) *int) column {
	return column{name: name, get: func(r *roomRow) string {
		if *of(r) == 0 {
			return ""
		}
		return strconv.Itoa(*of(r))
	}, set: func(r *roomRow, cell string) (err error) {
		if cell == "" {
			return nil
		}
		if *of(r), err = strconv.Atoi(strings.TrimSpace(cell)); err != nil {
			err = errors.New("must be a whole number")
		}
		return err
	}}
}

func listColumn[T ~string](name string, of func(*roomRow) *[]T) column {
	return column{name: name, get: func(r *roomRow) string { return joined(*of(r)) }, set: func(r *roomRow, cell string) error {
		cells := csv.NewReader(strings.NewReader(cell))
		cells.Comma, cells.TrimLeadingSpace = ';', true
		texts, err := cells.Read()
		if err != nil && !errors.Is(err, io.EOF) {
			return errors.New("must be texts with semicolons between")
		}
		for _, text := range texts {
			*of(r) = append(*of(r), T(strings.TrimSpace(text)))
		}
		return nil
	}}
}

func joined[T ~string](values []T) string {
	var b strings.Builder
	cells := csv.NewWriter(&b)
	cells.Comma = ';'
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	_ = cells.Write(texts) // a strings.Builder takes everything
	cells.Flush()
	return strings.TrimSpace(b.String())
}

// roomColumns are the columns of a table.
func roomColumns() []column {
	rule := func(c column) column {
		c.rule = true
		return c
	}
	return []column{
		textColumn("roomId", func(r *roomRow) *string { return (*string)(&r.Room) }),
		textColumn("name", func(r *roomRow) *string { return &r.Name }),
		textColumn("building", func(r *roomRow) *string { return &r.Building }),
		textColumn("floor", func(r *roomRow) *string { return &r.Floor }),
		numberColumn("capacity", func(r *roomRow) *int { return &r.Capacity }),
		listColumn("equipment", func(r *roomRow) *[]string { return &r.Equipment }),
		textColumn("zone", func(r *roomRow) *string { return &r.Zone }),
		textColumn("colour", func(r *roomRow) *string { return &r.Colour }),
		textColumn("note", func(r *roomRow) *string { return &r.Note }),
		listColumn("approvers", func(r *roomRow) *[]domain.UserID { return &r.Approvers }),
		{name: "hours", rule: true, get: func(r *roomRow) string { return hoursText(r.Rules.Hours) }, set: func(r *roomRow, cell string) (err error) {
			r.Rules.Hours, err = parseHours(cell)
			return err
		}},
		rule(numberColumn("stepMinutes", func(r *roomRow) *int { return &r.Rules.StepMinutes })),
		rule(numberColumn("shortestMinutes", func(r *roomRow) *int { return &r.Rules.ShortestMinutes })),
		rule(numberColumn("longestMinutes", func(r *roomRow) *int { return &r.Rules.LongestMinutes })),
		rule(numberColumn("gapMinutes", func(r *roomRow) *int { return &r.Rules.GapMinutes })),
		rule(numberColumn("noticeMinutes", func(r *roomRow) *int { return &r.Rules.NoticeMinutes })),
		rule(numberColumn("horizonDays", func(r *roomRow) *int { return &r.Rules.HorizonDays })),
		rule(textColumn("approval", func(r *roomRow) *string { return (*string)(&r.Rules.Approval) })),
		{name: "earlyUseMinutes", rule: true, get: func(r *roomRow) string {
			if r.Rules.EarlyUseMinutes == nil {
				return ""
			}
			return strconv.Itoa(*r.Rules.EarlyUseMinutes)
		}, set: func(r *roomRow, cell string) error {
			if cell == "" {
				return nil
			}
			r.Rules.EarlyUseMinutes = new(int)
			return numberColumn("", func(r *roomRow) *int { return r.Rules.EarlyUseMinutes }).set(r, cell)
		}},
		rule(numberColumn("upcomingPerUser", func(r *roomRow) *int { return &r.Rules.UpcomingPerUser })),
		rule(numberColumn("weeklyMinutesPerUser", func(r *roomRow) *int { return &r.Rules.WeeklyMinutesPerUser })),
	}
}

func readRoomTable(text []byte) (rooms []roomRow, faults []roomFault) {
	fault := func(line int, detail string) { faults = append(faults, roomFault{line, detail}) }
	table := csv.NewReader(bytes.NewReader(text))
	header, err := table.Read()
	if err != nil {
		return nil, []roomFault{{1, "must name the columns: roomId, name and others"}}
	}
	all := roomColumns()
	columns := make([]*column, len(header))
	hasRules := false
	for i, name := range header {
		name = strings.TrimSpace(name)
		at := slices.IndexFunc(all, func(c column) bool { return c.name == name })
		switch {
		case at < 0:
			fault(1, fmt.Sprintf("there is no column %q", name))
			continue
		case slices.Contains(columns[:i], &all[at]):
			fault(1, fmt.Sprintf("column %s is there twice", name))
		}
		columns[i] = &all[at]
		hasRules = hasRules || all[at].rule
	}
	for {
		cells, err := table.Read()
		if errors.Is(err, io.EOF) {
			return rooms, faults
		}
		if wrong, ok := errors.AsType[*csv.ParseError](err); ok && !errors.Is(err, csv.ErrFieldCount) {
			fault(wrong.Line, wrong.Err.Error())
			return rooms, faults
		}
		line, _ := table.FieldPos(0)
		if len(cells) != len(columns) {
			fault(line, fmt.Sprintf("has %d cells, not %d as the first line", len(cells), len(columns)))
			continue
		}
		r := roomRow{line: line}
		if hasRules {
			r.Rules = new(domain.Rules)
		}
		for i, c := range columns {
			if c == nil {
				continue
			}
			if err := c.set(&r, cells[i]); err != nil {
				fault(line, c.name+" "+err.Error())
			}
		}
		rooms = append(rooms, r)
	}
}

func writeRoomTable(w io.Writer, rooms []roomRow) error {
	table := csv.NewWriter(w)
	columns := roomColumns()
	cells := make([]string, len(columns))
	for i, c := range columns {
		cells[i] = c.name
	}
	err := table.Write(cells)
	for j := range rooms {
		for i, c := range columns {
			cells[i] = c.get(&rooms[j])
		}
		err = errors.Join(err, table.Write(cells))
	}
	table.Flush()
	return errors.Join(err, table.Error())
}

var weekdays = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}

// daysOf are the hours of each weekday, from Monday on.
func daysOf(w *domain.WeekHours) []*[]domain.Hours {
	return []*[]domain.Hours{&w.Monday, &w.Tuesday, &w.Wednesday, &w.Thursday, &w.Friday, &w.Saturday, &w.Sunday}
}

// hoursText is the text of hours in a cell: days with the same hours, one after the other, are put together.
func hoursText(w *domain.WeekHours) string {
	if w == nil {
		return ""
	}
	var parts []string
	days := daysOf(w)
	for first := 0; first < len(days); {
		last := first
		for last+1 < len(days) && slices.Equal(*days[last+1], *days[first]) {
			last++
		}
		part := weekdays[first]
		if last > first {
			part += "-" + weekdays[last]
		}
		for _, h := range *days[first] {
			part += " " + h.From + "-" + h.To
		}
		if len(*days[first]) > 0 {
			parts = append(parts, part)
		}
		first = last + 1
	}
	return strings.Join(parts, "; ")
}

// parseHours reads what hoursText writes.
func parseHours(cell string) (*domain.WeekHours, error) {
	if strings.TrimSpace(cell) == "" {
		return nil, nil
	}
	var w domain.WeekHours
	for part := range strings.SplitSeq(cell, ";") {
		words := strings.Fields(part)
		if len(words) < 2 {
			return nil, errHours
		}
		from, to, ranged := strings.Cut(strings.ToLower(words[0]), "-")
		first := slices.Index(weekdays, from)
		last := first
		if ranged {
			last = slices.Index(weekdays, to)
		}
		if first < 0 || last < first {
			return nil, errHours
		}
		var hours []domain.Hours
		for _, word := range words[1:] {
			from, to, ok := strings.Cut(word, "-")
			if !ok {
				return nil, errHours
			}
			hours = append(hours, domain.Hours{From: from, To: to})
		}
		for _, day := range daysOf(&w)[first : last+1] {
			*day = append(*day, hours...)
		}
	}
	return &w, nil
}

var errHours = errors.New("must be like monday-friday 08:00-12:00 13:00-18:00; saturday 09:00-12:00")

func readRoomList(text []byte) (rooms []roomRow, faults []roomFault) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, []roomFault{{lineOf(err), strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	if document.Kind != yaml.DocumentNode || document.Content[0].Kind != yaml.SequenceNode {
		return nil, []roomFault{{1, "must be a list of rooms"}}
	}
	for _, item := range document.Content[0].Content {
		r := roomRow{line: item.Line}
		if err := decodeRoom(item, &r); err != nil {
			faults = append(faults, roomFault{item.Line, err.Error()})
		} else {
			rooms = append(rooms, r)
		}
	}
	return rooms, faults
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

// lineOf is the line that an error of the parser names.
func lineOf(err error) int {
	if found := yamlLine.FindStringSubmatch(err.Error()); found != nil {
		line, _ := strconv.Atoi(found[1]) // these are digits
		return line
	}
	return 1
}

// decodeRoom decodes a room by way of JSON, for which its parts have tags.
func decodeRoom(item *yaml.Node, r *roomRow) error {
	if item.Kind != yaml.MappingNode {
		return errors.New("must be a room with roomId, name and others")
	}
	takeAsTexts(item)
	var value any
	if err := item.Decode(&value); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	text, err := json.Marshal(value)
	if err != nil {
		return errors.New("must have texts as keys")
	}
	err = json.Unmarshal(text, r, json.RejectUnknownMembers(true))
	if wrong, ok := errors.AsType[*json.SemanticError](err); ok {
		where := strings.TrimPrefix(string(wrong.JSONPointer), "/")
		switch {
		case errors.Is(wrong, json.ErrUnknownName):
			return fmt.Errorf("there is no %s", where)
		case wrong.GoType != nil && wrong.GoType.Kind() == reflect.Int:
			return fmt.Errorf("%s must be a whole number", where)
		}
		return fmt.Errorf("%s is not what it must be", where)
	}
	return err
}

// takeAsTexts lets scalars that look like numbers, as ids and floors may, be texts, but for those of numbers.
func takeAsTexts(n *yaml.Node) {
	for i, child := range n.Content {
		key := ""
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			key = n.Content[i-1].Value
		}
		number := key == "capacity" || strings.HasSuffix(key, "Minutes") || key == "horizonDays" || strings.HasSuffix(key, "PerUser")
		if child.Kind == yaml.ScalarNode && child.Tag != "!!null" && !number {
			child.Tag = "!!str"
		}
		takeAsTexts(child)
	}
}

func writeRoomList(w io.Writer, rooms []roomRow) error {
	text, err := json.Marshal(rooms)
	if err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil { // JSON is YAML
		return err
	}
	var plain func(n *yaml.Node)
	plain = func(n *yaml.Node) {
		n.Style = 0
		for _, child := range n.Content {
			plain(child)
		}
	}
	plain(&document)
	out := yaml.NewEncoder(w)
	out.SetIndent(2)
	return errors.Join(out.Encode(&document), out.Close())
}
