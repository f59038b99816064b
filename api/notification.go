package api

import (
	"errors"
	"net/http"

	"roombook/commands/notify"
	"roombook/domain"
	"roombook/projections"
)

func (s *Server) notificationRoutes() []route {
	return []route{
		// The notifications sent to users.
		{method: "GET", path: "/notifications", handle: s.notifications().page, params: listParams{}},
		// One notification.
		{method: "GET", path: "/notifications/{id}", handle: listEntry(true, s.lists.Notification, (*exchange).notificationReply)},
		// Has a notification that was given up delivered after all.
		{method: "POST", path: "/notifications/{id}/retry", handle: s.retryNotification, needs: domain.RetrySending},
	}
}

// notificationReply is a notification.
type notificationReply struct {
	NotificationID domain.NotificationID `json:"notificationId"`
	BookingID      *domain.BookingID     `json:"bookingId"` // null if it is about a fault of the room
	RoomID         domain.RoomID         `json:"roomId"`
	RoomName       string                `json:"roomName,omitzero"`
	concernedUser
	Kind         domain.NotificationKind `json:"kind"`
	Contents     string                  `json:"contents,omitzero"`
	SendDtm      timestamp               `json:"sendDtm"`
	Delivery     domain.Delivery         `json:"delivery"`
	DeliveredDtm *timestamp              `json:"deliveredDtm"`
	Attempts     int                     `json:"attempts"`
	Reason       *string                 `json:"reason"`
	Links        struct {
		Self         link `json:"self"`
		Notification link `json:"notification"`
		BookingList  link `json:"bookingList,omitzero"`
		Faults       link `json:"faults,omitzero"`
	} `json:"_links"`
}

func (x *exchange) notificationReply(n *projections.Notification) (r notificationReply) {
	r.NotificationID, r.BookingID, r.RoomID, r.RoomName, r.concernedUser = n.ID, orNull(n.Booking), n.Room, x.roomName(n.Room), x.concernedUser(n.User)
	r.Kind, r.Contents, r.SendDtm = n.Kind, n.Contents, x.time(n.SentAt)
	r.Delivery, r.DeliveredDtm, r.Attempts = n.Delivery, x.timeOrNull(n.DeliveredAt), n.Attempts
	r.Reason = orNull(n.Reason)
	r.Links.Self = x.link("/notifications/", string(n.ID))
	r.Links.Notification = r.Links.Self
	if n.Booking != "" {
		r.Links.BookingList = x.link("/bookingLists/", string(n.Booking))
	} else {
		r.Links.Faults = x.link("/rooms/", string(n.Room)+"/faults")
	}
	return r
}

// retryNotification asks for a notification to be delivered that was given up. Of any other nothing is asked. The reply has it as it is then.
func (s *Server) retryNotification(x *exchange) error {
	min, err := x.minPosition()
	if err != nil {
		return invalidParameter("Roombook-Position", err)
	}
	id := domain.NotificationID(x.vars["id"])
	if !validID(string(id)) {
		return projections.ErrNotFound
	}
	n, err := s.lists.Notification(x.ctx, id, min)
	if err == nil {
		err = x.nameRooms(min)
	}
	if err != nil {
		return err
	}
	request, err := x.request("")
	if err != nil {
		return err
	}
	position, err := notify.Retry(x.ctx, s.streams, id, request.Actor, request.Client, request.CorrelationID)
	switch {
	case errors.Is(err, notify.ErrNotFailed):
	case err != nil:
		return err
	default:
		n.Delivery = domain.DeliveryPending
		x.status = http.StatusAccepted
		x.position(position)
	}
	return x.reply(new(x.notificationReply(&n)))
}

func (s *Server) notifications() *list[projections.Notification, notificationReply] {
	return &list[projections.Notification, notificationReply]{
		server:   s,
		name:     "notifications",
		link:     func(l *pageLinks) *link { return &l.Notifications },
		named:    true,
		sorts:    []string{"sendDtm", "userId"},
		statuses: stringsOf(domain.DeliveryPending, domain.DeliveryDelivered, domain.DeliveryFailed),
		query:    s.lists.Notifications,
		reply:    (*exchange).notificationReply,
	}
}
