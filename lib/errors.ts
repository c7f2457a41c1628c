/** Every error this package throws carries a stable `code`; messages name the function, the argument, what came and what is wanted. */

/** Base of all typed errors; `code` is stable across versions, the message is not. */
export class BirkhoffError extends Error {
  readonly code: string;
  constructor(message: string, code = "ERR_BIRKHOFF") {
    super(message);
    this.name = new.target.name;
    this.code = code;
  }
}

/** A tensor has the wrong number of axes, extents or elements. */
export class ShapeError extends BirkhoffError {
  constructor(message: string) {
    super(message, "ERR_SHAPE");
  }
}

/** A tensor or typed array has the wrong element type. */
export class DTypeError extends BirkhoffError {
  constructor(message: string) {
    super(message, "ERR_DTYPE");
  }
}

/** A tensor was used after `dispose()`. */
export class DisposedError extends BirkhoffError {
  constructor(message: string) {
    super(message, "ERR_DISPOSED");
  }
}

/** A device cannot be had, operands live on different devices, or an op is missing there. */
export class DeviceError extends BirkhoffError {
  constructor(message: string) {
    super(message, "ERR_DEVICE");
  }
}

/** The native addon cannot be found or loaded: which file, on what platform, why, and what to do. Its message says all of it. */
export class AddonError extends BirkhoffError {
  /** The file that was tried; undefined where there is none. */
  readonly file: string | undefined;
  /** As "linux-x64". */
  readonly platform: string;
  /** As "glibc 2.36" or "musl"; null where it is neither. */
  readonly libc: string | null;
  readonly reason: string;
  readonly advice: string;
  constructor(about: { file?: string; platform: string; libc: string | null; reason: string; advice: string }) {
    const { platform, libc, reason, advice } = about;
    super(
      `birkhoff: no native addon for ${platform}${libc ? ` (${libc})` : ""}: ${reason.replace(/\.$/, "")}. ${advice}`,
      "ERR_ADDON",
    );
    this.file = about.file;
    this.platform = platform;
    this.libc = libc;
    this.reason = reason;
    this.advice = advice;
  }
}

/** Memory, or the byte budget set with `setMemoryBudget`, is exhausted. */
export class OutOfMemoryError extends BirkhoffError {
  constructor(message: string) {
    super(message, "ERR_OUT_OF_MEMORY");
  }
}

/** A model file cannot be read, is damaged, or does not fit the model. */
export class CheckpointError extends BirkhoffError {
  constructor(message: string) {
    super(message, "ERR_CHECKPOINT");
  }
}

/** A data set is missing, empty or too short. */
export class DataError extends BirkhoffError {
  constructor(message: string) {
    super(message, "ERR_DATA");
  }
}

/** Training met a loss or gradient that is not finite. */
export class NonFiniteError extends BirkhoffError {
  constructor(message: string) {
    super(message, "ERR_NON_FINITE");
  }
}

/** A number is outside its range; a `RangeError` with a `code`. */
export class ArgumentRangeError extends RangeError {
  readonly code = "ERR_RANGE";
  override readonly name = "RangeError";
}

/** An argument has the wrong JavaScript type; a `TypeError` with a `code`. */
export class ArgumentTypeError extends TypeError {
  readonly code = "ERR_TYPE";
  override readonly name = "TypeError";
}

/** Builds the typed error for a code that the native side reports. */
export function errorFromCode(code: string, message: string): Error {
  switch (code) {
    case "ERR_SHAPE":
      return new ShapeError(message);
    case "ERR_DTYPE":
      return new DTypeError(message);
    case "ERR_DISPOSED":
      return new DisposedError(message);
    case "ERR_DEVICE":
      return new DeviceError(message);
    case "ERR_OUT_OF_MEMORY":
      return new OutOfMemoryError(message);
    case "ERR_RANGE":
      return new ArgumentRangeError(message);
    case "ERR_TYPE":
      return new ArgumentTypeError(message);
    default:
      return new BirkhoffError(message, code);
  }
}
