package projections

// Status says where a booking is in its life, as the lists show it.
type Status string

const (
	StatusBooked    Status = "BOOKED"    // waits for the administrator's answer
	StatusConfirmed Status = "CONFIRMED" // the administrator said yes
	StatusInUse     Status = "IN_USE"    // the use has started
	StatusEnded     Status = "ENDED"     // the use has ended, and with it the booking
	StatusCancelled Status = "CANCELLED" // over without having been used
)

// Delivery says whether a notification has reached its user.
type Delivery string

const (
	DeliveryPending   Delivery = "PENDING"
	DeliveryDelivered Delivery = "DELIVERED"
	DeliveryFailed    Delivery = "FAILED"
)

// StatusAll, in a [Query], asks for documents of every status.
const StatusAll = "all"
