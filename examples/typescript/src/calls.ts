// Deadlines, retries, and the details of errors.
import { setTimeout as sleep } from "node:timers/promises";
import { type CallOptions, Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";

// Deadline of a call, retries included. The services refuse unary calls without a deadline.
const callLimitMs = 10_000;
// Delay before the first retry, its factor for each further one, and its bound, where the service names none: the retry
// policy of protos/service_config. Until the deadline, this bridges a service that restarts.
const minPauseMs = 500;
const pauseFactor = 2;
const maxPauseMs = 4_000;
// Delay before the retry of a call that gRPC dropped far above the server's capacity.
const droppedPauseMs = 500;

/** Makes a unary call with a deadline, and retries it where a retry is safe. */
export async function call<Request, Response>(
  method: (request: Request, options?: CallOptions) => Promise<Response>,
  request: Request,
): Promise<Response> {
  const until = performance.now() + callLimitMs;
  for (let attempt = 0; ; attempt++) {
    try {
      return await method(request, { timeoutMs: left(until) });
    } catch (error) {
      await pause(error, attempt, until);
    }
  }
}

/** Milliseconds until the deadline, at least 1. */
export function left(until: number): number {
  return Math.max(Math.floor(until - performance.now()), 1);
}

/** Waits before the next attempt. Throws the error if a retry is pointless or would miss the deadline. */
export async function pause(thrown: unknown, attempt: number, until: number): Promise<void> {
  const error = ConnectError.from(thrown);
  let delay = retryDelayMs(error);
  if (delay === 0 && error.code === Code.Unavailable) {
    delay = Math.min(minPauseMs * pauseFactor ** attempt, maxPauseMs);
  } else if (delay === 0 && error.code === Code.Canceled) {
    delay = droppedPauseMs;
  } else if (delay === 0 || (error.code !== Code.Unavailable && error.code !== Code.ResourceExhausted)) {
    throw error;
  }
  // At least as long as the service asked. The jitter keeps callers from retrying all at once.
  delay *= 1 + Math.random() / 2;
  if (delay > until - performance.now()) {
    throw error;
  }
  await sleep(delay);
}

/** The delay of RetryInfo, or 0 if the service sent none. */
function retryDelayMs(error: ConnectError): number {
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay === undefined ? 0 : Number(delay.seconds) * 1_000 + delay.nanos / 1e6;
}

/** An error with the reason of ErrorInfo and the fields of BadRequest. */
export function describe(thrown: unknown): string {
  const error = ConnectError.from(thrown);
  const lines = [error.message];
  for (const info of error.findDetails(ErrorInfoSchema)) {
    lines.push(`reason ${info.reason}`);
  }
  for (const field of error.findDetails(BadRequestSchema).flatMap((invalid) => invalid.fieldViolations)) {
    lines.push(`${field.field} ${field.description}`);
  }
  return lines.join("\n  ");
}
