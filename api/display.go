package api

import (
	"github.com/go-json-experiment/json/jsontext"
)

func (s *Server) displayRoutes() []route {
	return []route{
		// Pairs the display beside a room's door that shows a code.
		{method: "POST", path: "/displays", handle: s.pairDisplay},
	}
}

// displayRequest is the body that pairs a display.
type displayRequest struct {
	Code   field          `json:"code"`
	Others jsontext.Value `json:",embed"`
}

func (s *Server) pairDisplay(x *exchange) error {
	var in displayRequest
	b, err := x.decode(&in)
	if err != nil {
		return err
	}
	code := b.text(&in.Code, maxCredential)
	if err := b.check(in.Others); err != nil {
		return err
	}
	r, err := x.account()
	if err != nil {
		return err
	}
	token, err := s.accounts.PairDisplay(x.ctx, r, code)
	if err != nil {
		return err
	}
	x.created("/tokens/", string(token.ID))
	reply := x.tokenReply(&token)
	return x.reply(&reply)
}
