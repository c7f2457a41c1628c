/** What `fn` throws, for checks of class, code and message together. */
import { expect } from "vitest";

/** Expects `fn` to throw an error of this class name and code whose message matches. */
export function expectError(fn: () => unknown, name: string, code: string, message: RegExp): void {
  let thrown: unknown;
  try {
    fn();
  } catch (error) {
    thrown = error;
  }
  expect(thrown, `nothing was thrown, want ${name} ${message}`).toBeInstanceOf(Error);
  const { name: actualName, code: actualCode, message: text } = thrown as Error & { code?: string };
  expect({ name: actualName, code: actualCode }, text).toEqual({ name, code });
  expect(text).toMatch(message);
}
