/** Prints the checksums of every op, and the instruction set that computed them. */
import { native } from "../../../lib/native.ts";
import { everyChecksum } from "../../support/checksums.ts";
import "../../support/default_device.ts";

console.log(JSON.stringify({ simd: native.info().simd, results: everyChecksum() }));
