package web

import "roombook/projections"

func (p *Pages) messageRoutes() []Route {
	return []Route{
		// The notifications sent to the reader.
		{"GET", "/messages", false, p.messages},
	}
}

// messagesPage is the data of the reader's notifications.
type messagesPage struct {
	Items []projections.Notification
	More  string // the cursor of older ones
}

func (p *Pages) messages(v *view) error {
	if v.Reader == "" {
		return v.redirect("/settings?back=/messages")
	}
	if _, err := v.readRooms(); err != nil {
		return err
	}
	page, err := p.lists.Notifications(v.r.Context(), projections.Query{
		User: v.Reader, Sort: "sendDtm", Descending: true, Size: 50, Cursor: v.r.URL.Query().Get("cursor"), MinPosition: v.seen(),
	})
	if err != nil {
		return err
	}
	return v.show("messages", v.T("title.messages"), &messagesPage{page.Items, page.Next})
}

// Told is a notification in the reader's language.
func (v *view) Told(n projections.Notification) string {
	return v.T("told."+string(n.Kind), "room", v.RoomName(n.Room))
}
