/** Of the gateway, as the server of Next.js reaches it. */
export const parleyUrl = process.env["PARLEY_URL"] ?? "http://localhost:4000";
