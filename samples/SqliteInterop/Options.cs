using System.Globalization;

namespace SqliteInterop;

/// <summary>How a picture's bytes are handed to SQLite.</summary>
internal enum BlobBinding
{
    Leak,
    Free,
    Transient,
    Pinned,
}

/// <summary>What becomes of the store's second statement.</summary>
internal enum StatementEnd
{
    Finalize,
    Forget,
}

/// <summary>The command line.</summary>
internal sealed record Options
{
    internal const string Usage = """
        Stores small pictures as blobs in a SQLite database in memory, and says what it left unfreed.

        usage: SqliteInterop [options]

          --bind leak           bind unmanaged memory and never free it (default)
          --bind free           bind unmanaged memory, free it after the step
          --bind transient      let SQLite copy the memory, free it at once
          --bind pinned         bind a pinned managed array
          --statement finalize  finalize every statement (default)
          --statement forget    never finalize one; SQLite then refuses to close the database
          --pictures N          how many pictures to store, 0 to 100000 (default 100)
          --help                print this text
        """;

    private const int MostPictures = 100_000;

    internal BlobBinding Binding { get; private init; } = BlobBinding.Leak;

    internal StatementEnd StatementEnd { get; private init; } = StatementEnd.Finalize;

    internal int Pictures { get; private init; } = 100;

    internal bool Help { get; private init; }

    /// <exception cref="FormatException">The message says in one line what is wrong and what to write instead.</exception>
    internal static Options Parse(string[] args)
    {
        var options = new Options();
        for (int i = 0; i < args.Length; i++)
        {
            string name = args[i];
            options = name switch
            {
                "--bind" => options with { Binding = ParseBinding(Value()) },
                "--statement" => options with { StatementEnd = ParseEnd(Value()) },
                "--pictures" => options with { Pictures = ParseNumber(Value()) },
                "--help" or "-h" => options with { Help = true },
                _ => throw new FormatException($"unknown argument '{name}'; --help lists the options"),
            };

            string Value() => ++i < args.Length ? args[i] : throw new FormatException($"{name} needs a value; --help lists them");
        }

        return options;
    }

    private static BlobBinding ParseBinding(string value) => value switch
    {
        "leak" => BlobBinding.Leak,
        "free" => BlobBinding.Free,
        "transient" => BlobBinding.Transient,
        "pinned" => BlobBinding.Pinned,
        _ => throw new FormatException($"--bind takes leak, free, transient or pinned, not '{value}'"),
    };

    private static StatementEnd ParseEnd(string value) => value switch
    {
        "finalize" => StatementEnd.Finalize,
        "forget" => StatementEnd.Forget,
        _ => throw new FormatException($"--statement takes finalize or forget, not '{value}'"),
    };

    private static int ParseNumber(string value) =>
        int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number <= MostPictures
            ? number
            : throw new FormatException($"--pictures takes a whole number from 0 to {MostPictures}, not '{value}'");
}
