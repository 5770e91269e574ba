package com.example.groupbuy;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.AbstractBlockingStub;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** Deadlines, retries, and the details of errors. */
final class Calls {
  /** Deadline of a call, retries included. The services refuse unary calls without a deadline. */
  private static final long CALL_LIMIT_MS = 10_000;
  /**
   * Delay before the first retry, its factor for each further one, and its bound, where the service names none: the
   * retry policy of protos/service_config. Until the deadline, this bridges a service that restarts.
   */
  private static final long MIN_PAUSE_MS = 500;
  private static final double PAUSE_FACTOR = 2;
  private static final long MAX_PAUSE_MS = 4_000;
  /** Delay before the retry of a call that gRPC dropped far above the server's capacity. */
  private static final long DROPPED_PAUSE_MS = 500;

  /** Makes a unary call with a deadline, and retries it where a retry is safe. */
  static <S extends AbstractBlockingStub<S>, R> R call(S stub, Function<S, R> method) throws InterruptedException {
    long until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(CALL_LIMIT_MS);
    for (int attempt = 0; ; attempt++) {
      try {
        return method.apply(stub.withDeadlineAfter(until - System.nanoTime(), TimeUnit.NANOSECONDS));
      } catch (StatusRuntimeException error) {
        pause(error, attempt, until);
      }
    }
  }

  /** Waits before the next attempt. Throws the error if a retry is pointless or would miss the deadline. */
  static void pause(StatusRuntimeException error, int attempt, long until) throws InterruptedException {
    Code code = error.getStatus().getCode();
    long delay = retryDelayMs(error);
    if (delay == 0 && code == Code.UNAVAILABLE) {
      delay = (long) Math.min(MIN_PAUSE_MS * Math.pow(PAUSE_FACTOR, attempt), MAX_PAUSE_MS);
    } else if (delay == 0 && code == Code.CANCELLED) {
      delay = DROPPED_PAUSE_MS;
    } else if (delay == 0 || (code != Code.UNAVAILABLE && code != Code.RESOURCE_EXHAUSTED)) {
      throw error;
    }
    // At least as long as the service asked. The jitter keeps callers from retrying all at once.
    delay += ThreadLocalRandom.current().nextLong(delay / 2 + 1);
    if (TimeUnit.MILLISECONDS.toNanos(delay) > until - System.nanoTime()) {
      throw error;
    }
    Thread.sleep(delay);
  }

  /** The delay of RetryInfo, or 0 if the service sent none. */
  private static long retryDelayMs(StatusRuntimeException error) {
    for (Any detail : details(error)) {
      if (detail.is(RetryInfo.class)) {
        var delay = unpack(detail, RetryInfo.class).getRetryDelay();
        return delay.getSeconds() * 1_000 + delay.getNanos() / 1_000_000;
      }
    }
    return 0;
  }

  /** An error with the reason of ErrorInfo and the fields of BadRequest. */
  static String describe(StatusRuntimeException error) {
    var text = new StringBuilder(error.getMessage());
    for (Any detail : details(error)) {
      if (detail.is(ErrorInfo.class)) {
        text.append("\n  reason ").append(unpack(detail, ErrorInfo.class).getReason());
      } else if (detail.is(BadRequest.class)) {
        for (var field : unpack(detail, BadRequest.class).getFieldViolationsList()) {
          text.append("\n  ").append(field.getField()).append(' ').append(field.getDescription());
        }
      }
    }
    return text.toString();
  }

  private static List<Any> details(StatusRuntimeException error) {
    var status = StatusProto.fromThrowable(error);
    return status == null ? List.of() : status.getDetailsList();
  }

  private static <M extends com.google.protobuf.Message> M unpack(Any detail, Class<M> type) {
    try {
      return detail.unpack(type);
    } catch (InvalidProtocolBufferException error) {
      throw new IllegalArgumentException("the service sent an unreadable error detail", error);
    }
  }

  private Calls() {}
}
