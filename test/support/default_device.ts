/** A test that names no device is about the CPU, also on a machine with a GPU, which "auto" would take. */
import { setDevice } from "../../lib/index.ts";

setDevice("cpu");
