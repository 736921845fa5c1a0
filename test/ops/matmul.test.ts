import { runCases } from "../support/run_cases.ts";
import { cases } from "./matmul.cases.ts";

await runCases(cases);
