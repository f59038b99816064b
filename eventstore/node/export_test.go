package node

// BeginEmpty leaves a new log without the event that it begins with otherwise: tests count from their own first one.
func (n *Node) BeginEmpty() { n.begun.Do(func() {}) }

// Position is the last durable position of the log, 0 if it is empty.
func (n *Node) Position() uint64 { return n.log.position() }
