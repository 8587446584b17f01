using System.Runtime.CompilerServices;
using NativeLeaks;

namespace SqliteInterop;

/// <summary>Stores pictures in SQLite, and says what it left unfreed: the leak report at exit must say the same.</summary>
internal static class Program
{
    private static int Main(string[] args)
    {
        NativeLeakTracker.ReportOnExit();

        try
        {
            Options options = Options.Parse(args);
            Console.WriteLine(options.Help ? Options.Usage : StorePictures(options));
            return 0;
        }
        catch (FormatException error)
        {
            Console.Error.WriteLine(error.Message);
            return 2;
        }
        catch (SqliteException error)
        {
            Console.Error.WriteLine(error.Message);
            return 1;
        }
    }

    // Not inlined, so that the way from Main to the leak is whole also in optimized code.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static string StorePictures(Options options)
    {
        BlobWriter blobs = options.Binding switch
        {
            BlobBinding.Free => new FreeingBlobWriter(),
            BlobBinding.Transient => new TransientBlobWriter(),
            BlobBinding.Pinned => new PinnedBlobWriter(),
            _ => new LeakingBlobWriter(),
        };

        long bytes = 0;
        var database = new Database();
        PictureStore store;
        using (database)
        using (store = new PictureStore(database, blobs, options.StatementEnd))
        {
            for (int number = 0; number < options.Pictures; number++)
            {
                byte[] file = Picture.Draw(number);
                store.Insert(number, file);
                bytes += file.Length;
            }

            for (int number = 0; number < options.Pictures; number++)
            {
                if (!store.Holds(number, Picture.Draw(number)))
                {
                    throw new SqliteException($"picture {number} did not come back as it was stored");
                }
            }
        }

        // Frees what SQLite keeps for itself. Not allowed while a connection is open.
        if (database.ClosedWell)
        {
            _ = NativeMethods.Shutdown();
        }

        string result = $"stored {Unfreed.Count(options.Pictures, "picture")}, {Unfreed.Count(bytes, "byte")}; "
            + $"left unfreed: {DescribeUnfreed(blobs.LeftUnfreed, SqliteMemory.Unfreed)}";

        // Until here a forgotten statement must not meet its finalizer, or the figures would depend on when the GC runs.
        GC.KeepAlive(store);
        return result;
    }

    private static string DescribeUnfreed(Unfreed pictures, Unfreed sqlite) => sqlite.Blocks == 0
        ? $"{pictures}"
        : $"{pictures + sqlite} (pictures: {pictures}; SQLite: {sqlite}, as sqlite3_close refused to close the connection)";
}
