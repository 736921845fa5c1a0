import { runCases } from "../support/run_cases.ts";
import { cases } from "./cross_entropy.cases.ts";

await runCases(cases);
