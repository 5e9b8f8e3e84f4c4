/** Vite takes it out of the script and writes it beside. */
declare module "*.css";
