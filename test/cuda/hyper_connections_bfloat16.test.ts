/** The hyper-connection kernels of the GPU on bfloat16 streams against the CPU's, which the float64 oracles have checked. */
import { describeAgreement } from "../support/hyper_connection_agreement.ts";

for (const n of [1, 2, 4, 8]) describeAgreement("bfloat16", n);
