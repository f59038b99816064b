package notify

import (
	"os"
	"strings"
	"testing"

	"roombook/commands/notify/notifytest"
	"roombook/domain"
)

// What the README shows as a mail is what arrives, in both languages.
func TestREADMEShowsAMail(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	server := notifytest.NewMailServer(t, false)
	c := newTestMail(t, server, write(t, "users: [{user: kim, language: ko, mail: kim@example.com}]"))
	for _, user := range []domain.UserID{"ann", "kim"} {
		m := told(domain.KindChanged)
		m.To, m.User, m.Room, m.Reason, m.By, m.OldRoom = user, user, "7", "", "lee", "8"
		m.OldSlot = m.Slot
		if err := c.send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		mails := server.All()
		got := mails[len(mails)-1]
		_, all := parts(t, got)
		shown := "Subject: " + header(t, got, "Subject") + "\n\n" + strings.ReplaceAll(all[0].text, "\r\n", "\n")
		shown = "    " + strings.ReplaceAll(strings.TrimSpace(shown), "\n", "\n    ")
		shown = strings.ReplaceAll(shown, "    \n", "\n")
		if !strings.Contains(string(readme), shown) {
			t.Errorf("the README does not have\n%s", shown)
		}
	}
}
