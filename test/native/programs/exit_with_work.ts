/** Leaves the process while work and reads are queued. */
import { ops, Tensor } from "../../../lib/index.ts";

const x = Tensor.randn([512, 512]);
let y = x;
for (let i = 0; i < 50; i++) y = ops.matmul(y, x);
y.data().catch(() => {});
process.exit(0);
