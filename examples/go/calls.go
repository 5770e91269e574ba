package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// Deadline of a call, retries included. The services refuse unary calls without a deadline.
	callLimit = 10 * time.Second
	// Delay before the first retry, its factor for each further one, and its bound, where the service names none: the
	// retry policy of protos/service_config. Until the deadline, this bridges a service that restarts.
	minPause    = 500 * time.Millisecond
	pauseFactor = 2
	maxPause    = 4 * time.Second
	// Delay before the retry of a call that gRPC dropped far above the server's capacity.
	droppedPause = 500 * time.Millisecond
)

// call makes a unary call with a deadline, and retries it where a retry is safe.
func call[Request, Response any](
	ctx context.Context,
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error),
	request *Request,
) (*Response, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	for attempt := 0; ; attempt++ {
		response, err := method(ctx, request)
		if err == nil {
			return response, nil
		}
		if err := pause(ctx, err, attempt); err != nil {
			return nil, err
		}
	}
}

// pause waits before the next attempt. It returns the error if a retry is pointless or would miss the deadline.
func pause(ctx context.Context, err error, attempt int) error {
	failure := status.Convert(err)
	delay := retryDelay(failure)
	switch {
	case failure.Code() == codes.Unavailable && delay == 0:
		delay = min(time.Duration(float64(minPause)*math.Pow(pauseFactor, float64(min(attempt, 10)))), maxPause)
	case failure.Code() == codes.Canceled && ctx.Err() == nil && delay == 0:
		delay = droppedPause
	case failure.Code() != codes.Unavailable && failure.Code() != codes.ResourceExhausted, delay == 0:
		return err
	}
	// At least as long as the service asked. The jitter keeps callers from retrying all at once.
	delay += time.Duration(mathrand.Float64() * float64(delay) / 2)
	if until, limited := ctx.Deadline(); limited && time.Until(until) < delay {
		return err
	}
	select {
	case <-time.After(delay):
		return nil
	case <-ctx.Done():
		return err
	}
}

// retryDelay is the delay of RetryInfo, or 0 if the service sent none.
func retryDelay(failure *status.Status) time.Duration {
	for _, detail := range failure.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// describe prints an error with the reason of ErrorInfo and the fields of BadRequest.
func describe(err error) string {
	failure, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}
	text := []string{fmt.Sprintf("%v: %s", failure.Code(), failure.Message())}
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			text = append(text, "reason "+detail.GetReason())
		case *errdetails.BadRequest:
			for _, field := range detail.GetFieldViolations() {
				text = append(text, fmt.Sprintf("%s %s", field.GetField(), field.GetDescription()))
			}
		}
	}
	return strings.Join(text, "\n  ")
}

// newUUID is a random UUID: an idempotency key.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
