package commands

import (
	"context"

	"roombook/domain"
)

// AnswerConfirm records the administrator's answer. A denial cancels the booking in the same append and releases its slot.
func (h *Handler) AnswerConfirm(ctx context.Context, c AnswerConfirm) (Booking, error) {
	ctx, end, err := h.begin(ctx)
	if err != nil {
		return Booking{}, err
	}
	defer end()
	answer := domain.AnswerConfirm{Answer: c.Answer, By: c.By, Reason: c.Reason, AnsweredAt: c.AnsweredAt, At: c.At}
	b, outcome, err := h.transact(ctx, c.Request, c.Booking, func(b domain.Booking) ([]domain.Event, error) {
		return domain.DecideConfirm(b, answer)
	})
	if err == nil && outcome == nothingToDo {
		b, err = unchanged(ctx, h, c.Request, b)
	}
	if err != nil || outcome != done || b.state.Live() {
		return at(b), err
	}
	return h.released(ctx, b)
}
