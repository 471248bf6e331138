package llmstatsd

// Stats are the counts of a [Client] since it was made. They only rise.
// The names in JSON are those of the clients for other languages.
type Stats struct {
	Events        uint64 `json:"events"`         // calls of Send, on a disabled or closed client too
	RefusedFields uint64 `json:"refused_fields"` // numbers out of their range, left out
	ClosedEvents  uint64 `json:"closed_events"`  // calls of Send after Close

	SentDatagrams uint64 `json:"sent_datagrams"` // given to the kernel; UDP does not say whether they arrive
	SentBytes     uint64 `json:"sent_bytes"`

	// Datagrams that were not sent.
	DroppedFull        uint64 `json:"dropped_full"`        // the socket's buffer was full
	DroppedUnresolved  uint64 `json:"dropped_unresolved"`  // no address for the host, or an impossible port or path
	DroppedUnreachable uint64 `json:"dropped_unreachable"` // nobody listens
	DroppedError       uint64 `json:"dropped_error"`       // any other error
}

func (s *Stats) count(became outcome, size int) {
	switch became {
	case sent:
		s.SentDatagrams++
		s.SentBytes += uint64(size)
	case full:
		s.DroppedFull++
	case unresolved:
		s.DroppedUnresolved++
	case unreachable:
		s.DroppedUnreachable++
	default:
		s.DroppedError++
	}
}
