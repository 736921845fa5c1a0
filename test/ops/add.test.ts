import { runCases } from "../support/run_cases.ts";
import { cases } from "./add.cases.ts";

await runCases(cases);
