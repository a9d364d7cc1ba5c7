//! The command line: what can be said, and nothing of what is done.

use crate::exit::EXIT_HELP;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// BrandOS: the backend of a brand in one program.
#[derive(Debug, Parser)]
#[command(name = "brandos", version, about, after_help = EXIT_HELP, max_term_width = 120, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Configuration file (TOML); else $BRANDOS_CONFIG; else none
    #[arg(long, global = true, value_name = "FILE", help_heading = "Common")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder of the embedded engine [default: ./brandos-data]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Common")]
    pub(crate) data: Option<String>,
    /// PostgreSQL instead of the embedded engine; once for each shard, the home shard first
    #[arg(long, global = true, value_name = "URL", help_heading = "Common")]
    pub(crate) database: Vec<String>,
    /// Any option of the configuration, such as --set store.readers=8
    #[arg(long, global = true, value_name = "NAME=VALUE", help_heading = "Common")]
    pub(crate) set: Vec<String>,
    /// JSON on stdout, one value a line, the last one being the answer
    #[arg(long, global = true, help_heading = "Common")]
    pub(crate) json: bool,
}

/// What `brandos` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the API until SIGINT or SIGTERM
    Serve(Serve),
    /// Serve a demo brand with its own catalog and orders that arrive at a gentle rate
    Demo(Demo),
    /// Tenants: the brands on this platform
    #[command(subcommand)]
    Tenant(Tenant),
    /// Users and what they may do
    #[command(subcommand)]
    User(User),
    /// API keys of tenants
    #[command(subcommand)]
    ApiKey(ApiKey),
    /// Bring trade in from elsewhere
    #[command(subcommand)]
    Import(Import),
    /// A tenant's whole catalog as a file
    #[command(subcommand)]
    Catalog(Catalog),
    /// Bring the databases' tables up to date, and show which migrations they have
    Migrate(Migrate),
    /// Check that what is stored is consistent: every check of every module, tenant and shard
    Audit,
    /// The books of a tenant
    #[command(subcommand)]
    Ledger(Ledger),
    /// Compare a payment provider's settlement file with the payments; exits with 1 when something differs
    Reconcile(Reconcile),
    /// Rate limits: who is limited, and whether a file of rules is right
    #[command(subcommand)]
    Limits(Limits),
    /// Let a consumer of the log handle its events again
    Replay(Replay),
    /// Events that a consumer gave up on
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Sagas: what is under way outside, and what is stuck
    #[command(subcommand)]
    Workflow(Workflow),
    /// Copy the whole node into a new folder, while it serves too
    Backup(Backup),
    /// Bring a backup, or one tenant of it, back
    Restore(Restore),
    /// Be a payment provider for tests and demos: its own books, and cards that misbehave on demand
    SandboxPsp(SandboxPsp),
    /// Be a carrier for tests and demos: it sells labels, loses parcels, and misbehaves on demand
    SandboxCarrier(SandboxCarrier),
    /// Look at what BrandOS stands on: engines, clock, disk, file limits, data folder
    Doctor,
    /// Print the OpenAPI document of all routes
    Openapi,
    /// Show the effective configuration and where each value came from
    Config(ShowConfig),
}

/// `serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen, such as 0.0.0.0:8080; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
}

/// `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where to listen; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Orders a second
    #[arg(long, default_value_t = 2.0, value_name = "NUMBER")]
    pub(crate) rate: f64,
}

/// `tenant ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Tenant {
    /// Make a tenant
    Create {
        /// Its name in URLs: lower-case letters, digits and hyphens
        slug: String,
        /// Its name for people [default: the slug]
        #[arg(long)]
        name: Option<String>,
    },
    /// All tenants
    List,
    /// One tenant
    Show {
        /// Slug or id
        tenant: String,
    },
    /// Refuse every request of a tenant; its data stays
    Suspend {
        /// Slug or id
        tenant: String,
    },
    /// Let a suspended tenant work again
    Resume {
        /// Slug or id
        tenant: String,
    },
    /// Move a tenant's data to another shard; its writes pause for a moment
    Move {
        /// Slug or id
        tenant: String,
        /// Number of the shard, from 0
        #[arg(long, value_name = "SHARD")]
        to_shard: u16,
    },
}

/// `user ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Make a user, or give one that exists a role in a tenant; the password is read from stdin or made
    Create {
        /// E-mail address
        email: String,
        /// Name for people [default: the part before the @]
        #[arg(long)]
        name: Option<String>,
        /// Tenant to become a member of: slug or id
        #[arg(long)]
        tenant: Option<String>,
        /// Role in the tenant
        #[arg(long, default_value = "owner", requires = "tenant")]
        role: String,
        /// Make the user an administrator of the platform
        #[arg(long)]
        platform_admin: bool,
        /// Read the password from stdin's first line instead of making one
        #[arg(long)]
        password_stdin: bool,
    },
    /// Members of a tenant
    List {
        /// Slug or id
        #[arg(long)]
        tenant: String,
    },
    /// Refuse a user every request, at once
    Suspend {
        /// E-mail address
        user: String,
    },
    /// Let a suspended user in again
    Resume {
        /// E-mail address
        user: String,
    },
}

/// `api-key ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum ApiKey {
    /// Make a key; it is shown once
    Create {
        /// Tenant: slug or id
        #[arg(long)]
        tenant: String,
        /// What it is for
        #[arg(long, default_value = "cli")]
        name: String,
        /// Permission, such as orders.write; several times [default: all of the tenant's]
        #[arg(long = "permission", value_name = "PERMISSION")]
        permissions: Vec<String>,
        /// A key that is no secret: for a shop's page, and for the storefront alone
        #[arg(long, conflicts_with = "permissions")]
        publishable: bool,
        /// Origin whose pages may use a publishable key, such as https://shop.example; several times [default: any]
        #[arg(long = "origin", value_name = "ORIGIN", requires = "publishable")]
        origins: Vec<String>,
    },
    /// A tenant's keys
    List {
        /// Tenant: slug or id
        #[arg(long)]
        tenant: String,
    },
    /// End a key at once
    Revoke {
        /// Tenant: slug or id
        #[arg(long)]
        tenant: String,
        /// The key's id
        key: String,
    },
}

/// `import ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// Invoice lines as CSV, plain or gzip: InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
    ///
    /// Invoices that begin with C become credit notes, those with A adjustments, the rest orders. Can be stopped and run again at
    /// any moment: it goes on where it was, and what is there is not imported again.
    OnlineRetail(OnlineRetail),
}

/// `import online-retail`.
#[derive(Debug, Args)]
pub(crate) struct OnlineRetail {
    /// The file
    pub(crate) file: PathBuf,
    /// Tenant that the trade belongs to; made when it is missing
    #[arg(long)]
    pub(crate) tenant: String,
    /// Currency of the prices
    #[arg(long, default_value = "GBP")]
    pub(crate) currency: String,
}

/// `catalog ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Catalog {
    /// Make and change variants by a file of any size, plain or gzip; exits with 1 when rows were refused
    ///
    /// Rows that say what is there already change nothing, so an import that was stopped is run again. What a later row says of a SKU wins; a
    /// SKU and currency that come twice with different values, more than 1,000 rows apart, are written twice each time.
    Import {
        /// The file: CSV with a header, or NDJSON; columns as POST /api/v1/catalog/import takes them
        file: PathBuf,
        /// Tenant: slug or id
        #[arg(long)]
        tenant: String,
        /// What it is written in [default: by the end of its name]
        #[arg(long, value_enum)]
        format: Option<CatalogFormat>,
    },
    /// Write all variants with their prices to stdout, as `import` reads them
    ///
    /// With --json the rows are NDJSON and the last line is the answer, which `import` refuses: leave it away for a file to bring in. Titles
    /// and descriptions of products, schedules, attributes, tags, media and categories are not in such a file.
    Export {
        /// Tenant: slug or id
        #[arg(long)]
        tenant: String,
        /// How
        #[arg(long, value_enum, default_value_t = CatalogFormat::Csv)]
        format: CatalogFormat,
    },
}

/// What a file of the catalog is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CatalogFormat {
    /// Comma-separated, with a header
    Csv,
    /// One JSON object a line
    Ndjson,
}

/// `migrate`.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Change nothing; say what is pending, and exit with 1 when something is
    #[arg(long)]
    pub(crate) status: bool,
}

/// `ledger ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Ledger {
    /// Debits and credits by currency and type of account; exits with 1 when they differ
    TrialBalance {
        /// Tenant: slug or id
        #[arg(long)]
        tenant: String,
    },
    /// Write the whole journal to stdout, the oldest first
    Export {
        /// Tenant: slug or id
        #[arg(long)]
        tenant: String,
        /// How
        #[arg(long, value_enum, default_value_t = ExportFormat::Hledger)]
        format: ExportFormat,
    },
    /// Seal what was written since the last seal, as a server does by itself: signed heads of the journal's chain of hashes
    Seal {
        /// Tenant: slug or id
        #[arg(long)]
        tenant: String,
    },
    /// Recount everything: every check of the ledger, or of an exported journal without any database; exits with 1 when one fails
    Verify {
        /// Tenant: slug or id
        #[arg(long, required_unless_present = "file", conflicts_with = "file")]
        tenant: Option<String>,
        /// A journal that `export --format json` has written; `-` for stdin
        file: Option<PathBuf>,
        /// Accept only seals by this key; `seal` tells it
        #[arg(long, value_name = "HEX", requires = "file")]
        public_key: Option<String>,
        /// Want a seal with this head, kept from an earlier verification
        #[arg(long, value_name = "HEX", requires = "file")]
        head: Option<String>,
    },
}

/// `reconcile`.
#[derive(Debug, Args)]
pub(crate) struct Reconcile {
    /// The file: CSV, read as the provider's settlement format says
    pub(crate) file: PathBuf,
    /// Tenant: slug or id
    #[arg(long)]
    pub(crate) tenant: String,
    /// The provider's id
    #[arg(long, value_name = "PSP")]
    pub(crate) provider: String,
    /// The day that the file is of; what happened later is not expected in it
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(crate) day: String,
}

/// How a journal is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExportFormat {
    /// hledger's journal: `brandos ledger export ... | hledger -f - balance`
    Hledger,
    /// One JSON object a line
    Json,
}

/// `limits ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Limits {
    /// Who was refused by a running server, those refused last first
    List {
        /// The server [default: the configured web.listen]
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// File with an access token of an administrator of the platform; - for stdin
        #[arg(long, value_name = "FILE")]
        token_file: String,
    },
    /// Check a file of rules, and show what it says
    Check {
        /// The file, or default or generous for those that are shipped
        file: String,
    },
}

/// `replay`.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The consumer's name, such as orders.daily_sales
    pub(crate) consumer: String,
    /// Only on this shard
    #[arg(long)]
    pub(crate) shard: Option<u16>,
    /// Only on this lane of the shard
    #[arg(long, requires = "shard")]
    pub(crate) lane: Option<u16>,
    /// Begin after this position of the lane instead of at the first event
    #[arg(long, value_name = "POSITION")]
    pub(crate) from: Option<i64>,
}

/// `dead-letters ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// The oldest first
    List {
        /// Of this consumer only
        #[arg(long)]
        consumer: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// One with its event and its last error
    Show {
        /// Consumer
        consumer: String,
        /// The event's id
        event: String,
    },
    /// Hand the event to its consumer again
    Retry {
        /// Consumer
        consumer: String,
        /// The event's id
        event: String,
    },
    /// Let the consumer go on without it
    Skip {
        /// Consumer
        consumer: String,
        /// The event's id
        event: String,
    },
}

/// Whose saga it is.
#[derive(Debug, Args)]
pub(crate) struct SagaOwner {
    /// Of this tenant: slug or id
    #[arg(long, conflicts_with = "shard")]
    pub(crate) tenant: Option<String>,
    /// Of the platform itself, on this shard
    #[arg(long)]
    pub(crate) shard: Option<u16>,
}

/// `workflow ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum Workflow {
    /// Those that wait for a person; with --tenant or --shard all of that owner, the newest first
    List {
        #[command(flatten)]
        owner: SagaOwner,
        /// At most this many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// One with all that it knows. Without an owner it must be parked, here and below
    Show {
        /// The saga's id
        saga: String,
        #[command(flatten)]
        owner: SagaOwner,
    },
    /// Try it again where it stopped
    Retry {
        /// The saga's id
        saga: String,
        #[command(flatten)]
        owner: SagaOwner,
    },
    /// Undo what it has done
    Cancel {
        /// The saga's id
        saga: String,
        #[command(flatten)]
        owner: SagaOwner,
    },
    /// Tell what became of the call that it is parked for
    #[command(group = clap::ArgGroup::new("outcome").required(true))]
    Decide {
        /// The saga's id
        saga: String,
        #[command(flatten)]
        owner: SagaOwner,
        /// It has happened; the answer, as JSON or plain text
        #[arg(long, value_name = "ANSWER", group = "outcome")]
        done: Option<String>,
        /// It has not happened and will not; why
        #[arg(long, value_name = "REASON", group = "outcome")]
        refused: Option<String>,
    },
}

/// `backup`.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// A folder that does not exist yet
    pub(crate) dir: PathBuf,
}

/// `restore`.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// A folder that `backup` made
    pub(crate) dir: PathBuf,
    /// Only this tenant (slug or id), into a node that serves already; else the whole node into an empty one
    #[arg(long)]
    pub(crate) tenant: Option<String>,
}

/// `sandbox-psp`.
#[derive(Debug, Args)]
pub(crate) struct SandboxPsp {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDRESS")]
    pub(crate) listen: std::net::SocketAddr,
    /// SQLite file that keeps its books, so that they survive being killed [default: memory alone]
    #[arg(long, value_name = "FILE")]
    pub(crate) books: Option<PathBuf>,
    /// What callers show as their bearer token
    #[arg(long, default_value = "sk_sandbox", value_name = "KEY")]
    pub(crate) api_key: String,
    /// Where callbacks go, such as http://127.0.0.1:8080/api/v1/tenants/acme/payments/callbacks/psp_...
    #[arg(long, value_name = "URL", requires = "callback_secret")]
    pub(crate) callback: Option<String>,
    /// Signs callbacks: whsec_ and base64
    #[arg(long, value_name = "SECRET", requires = "callback")]
    pub(crate) callback_secret: Option<String>,
    /// The same seed misbehaves the same
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) seed: u64,
    /// How often it misbehaves for the token tok_random, such as timeout_after=0.05,soft_decline=0.1
    #[arg(long, default_value = "", value_name = "NAME=SHARE,...")]
    pub(crate) rates: String,
    /// How long it lets a caller wait in vain, in milliseconds
    #[arg(long, default_value_t = 30_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub(crate) hang_ms: u64,
    /// How late a late answer or callback is, in milliseconds
    #[arg(long, default_value_t = 2_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub(crate) late_ms: u64,
}

/// `sandbox-carrier`.
#[derive(Debug, Args)]
pub(crate) struct SandboxCarrier {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8091", value_name = "ADDRESS")]
    pub(crate) listen: std::net::SocketAddr,
    /// What callers show as their bearer token
    #[arg(long, default_value = "ck_sandbox", value_name = "KEY")]
    pub(crate) api_key: String,
    /// Where callbacks go, such as http://127.0.0.1:8080/api/v1/tenants/acme/shipping/callbacks/car_...
    #[arg(long, value_name = "URL", requires = "callback_secret")]
    pub(crate) callback: Option<String>,
    /// Signs callbacks: whsec_ and base64
    #[arg(long, value_name = "SECRET", requires = "callback")]
    pub(crate) callback_secret: Option<String>,
    /// The same seed misbehaves the same
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) seed: u64,
    /// How often it misbehaves for the service random, such as timeout_after=0.05,outage=0.1
    #[arg(long, default_value = "", value_name = "NAME=SHARE,...")]
    pub(crate) rates: String,
    /// How long it lets a caller wait in vain, in milliseconds
    #[arg(long, default_value_t = 30_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub(crate) hang_ms: u64,
    /// How late a late answer or callback is, in milliseconds
    #[arg(long, default_value_t = 2_000, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub(crate) late_ms: u64,
}

/// `config`.
#[derive(Debug, Args)]
pub(crate) struct ShowConfig {
    /// Print a commented example file instead
    #[arg(long)]
    pub(crate) example: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
