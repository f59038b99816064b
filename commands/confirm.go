package commands

import (
	"context"

	"roombook/domain"
)

// AnswerConfirm records the administrator's answer. A denial cancels the booking in the same append and releases its slot. Who answers in
// somebody else's name must be permitted to answer whatever the room.
func (h *Handler) AnswerConfirm(ctx context.Context, c AnswerConfirm) (Booking, error) {
	answer := domain.AnswerConfirm{Answer: c.Answer, By: c.By, Reason: c.Reason, AnsweredAt: c.AnsweredAt, At: c.At}
	permit := h.permitBooking(domain.AnswerBooked)
	if c.By != "" && c.By != c.Actor.User {
		permit = permitAnything[domain.Booking](domain.AnswerBooked)
	}
	return h.onBooking(ctx, c.Request, h.booking(c.Booking, permit), func(ctx context.Context, b loaded[domain.Booking]) (decision, error) {
		// A booking in use can be confirmed, unless its use has ended and only its cancellation is left to be written.
		now, _, err := h.withUse(ctx, b, all)
		if err != nil {
			return decision{}, err
		}
		return c.decided(domain.DecideConfirm(now.Booking, answer))
	})
}
