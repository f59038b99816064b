package node

// BeginEmpty leaves a new log without the event that it begins with otherwise: tests count from their own first one.
func (n *Node) BeginEmpty() { n.begun.Do(func() {}) }
