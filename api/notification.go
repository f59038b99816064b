package api

import "roombook/projections"

func (s *Server) notificationRoutes() []route {
	return []route{
		// What users were told.
		{method: "GET", path: "/notifications", handle: s.notifications().page, params: listParams{}},
		// One notification.
		{method: "GET", path: "/notifications/{id}", handle: s.notification},
	}
}

func (s *Server) notifications() *list[projections.Notification] {
	return &list[projections.Notification]{
		server:   s,
		name:     "notifications",
		sorts:    []string{"sendDtm", "userId"},
		statuses: words(projections.DeliveryPending, projections.DeliveryDelivered, projections.DeliveryFailed),
		query:    s.lists.Notifications,
		write:    (*document).notification,
	}
}

func (s *Server) notification(x *exchange) error {
	id, min, err := listed[projections.NotificationID](x)
	if err != nil {
		return err
	}
	n, err := s.lists.Notification(x.ctx, id, min)
	if err != nil {
		return err
	}
	x.document.notification(&n)
	return nil
}

func (d *document) notification(n *projections.Notification) {
	id := string(n.ID)
	d.beginObject()
	d.text("notificationId", id)
	d.text("bookingId", string(n.Booking))
	d.text("userId", string(n.User))
	d.text("kind", string(n.Kind))
	d.text("contents", n.Contents)
	d.time("sendDtm", n.SentAt)
	d.text("delivery", string(n.Delivery))
	d.time("deliveredDtm", n.DeliveredAt)
	d.number("attempts", int64(n.Attempts))
	d.beginLinks()
	d.link("self", "/notifications/", id)
	d.link("notification", "/notifications/", id)
	d.link("bookingList", "/bookingLists/", string(n.Booking))
	d.endObject()
	d.endObject()
}
