package domain

// Rules restrict the bookings of a room. The zero value restricts nothing. They are decided where a slot is decided, on the same calendar.
type Rules struct {
	// Hours are when the room can be booked, by weekday, in the zone of the room. A weekday without any is closed. Nil is always.
	Hours *WeekHours `json:"hours,omitzero"`
	// StepMinutes is the grid on which slots start and end, counted from midnight in the zone of the room.
	StepMinutes int `json:"stepMinutes,omitzero"`
	// ShortestMinutes and LongestMinutes bound the length of a slot.
	ShortestMinutes int `json:"shortestMinutes,omitzero"`
	LongestMinutes  int `json:"longestMinutes,omitzero"`
	// GapMinutes is the least time between two bookings.
	GapMinutes int `json:"gapMinutes,omitzero"`
	// NoticeMinutes is how long before its start a slot has to be booked at the latest, HorizonDays how long at the earliest.
	NoticeMinutes int `json:"noticeMinutes,omitzero"`
	HorizonDays   int `json:"horizonDays,omitzero"`
	// Approval says whether an administrator confirms bookings. Empty is [ApprovalRequired].
	Approval Approval `json:"approval,omitzero"`
	// EarlyUseMinutes is how long before its slot the use of a booking may start at the earliest. Nil is as the policy says.
	EarlyUseMinutes *int `json:"earlyUseMinutes,omitzero"`
	// UpcomingPerUser is how many bookings that have not ended a user may have in the room, and WeeklyMinutesPerUser how much time in a
	// week from Monday to Sunday in the zone of the room.
	UpcomingPerUser      int `json:"upcomingPerUser,omitzero"`
	WeeklyMinutesPerUser int `json:"weeklyMinutesPerUser,omitzero"`
}

// Approval says who answers requests for confirmation.
type Approval string

const (
	ApprovalRequired Approval = "required" // an administrator
	ApprovalNone     Approval = "none"     // nobody: bookings are confirmed as they are made
)

// WeekHours are the bookable hours of each weekday.
type WeekHours struct {
	Monday    []Hours `json:"monday,omitempty"`
	Tuesday   []Hours `json:"tuesday,omitempty"`
	Wednesday []Hours `json:"wednesday,omitempty"`
	Thursday  []Hours `json:"thursday,omitempty"`
	Friday    []Hours `json:"friday,omitempty"`
	Saturday  []Hours `json:"saturday,omitempty"`
	Sunday    []Hours `json:"sunday,omitempty"`
}

// Hours is a part of a day, [From, To), as HH:MM of the wall clock from 00:00 to 24:00.
type Hours struct {
	From string `json:"from"`
	To   string `json:"to"`
}
